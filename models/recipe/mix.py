"""Weights between and beyond those of several trainings: the start net, moved towards what they learned.

    python mix.py --towards A.safetensors 0.2 --towards B.safetensors 0.2 --out mixed.safetensors
    python mix.py --mean A.safetensors B.safetensors --out mean.safetensors

The first is the start net with its own head ("level-bins"), its body moved by 0.2 of the way that each of the
other bodies went from it. Trainings that began with the same weights can be averaged like this (arXiv
2109.01903, 2203.05482); heads of another form are left out. The second is the mean of whole nets of one form.
"""

import argparse
import sys

from safetensors.torch import load_file, save_file

import start as starts
from files import whole


def mixed(base, towards):
    """`base + sum(share * (other - base))` for the body, and the rest of `base` as it is."""
    result = dict(base)
    for other, share in towards:
        for name, value in base.items():
            if not name.startswith(("backbone.", "fpn.")):
                continue
            if name not in other or other[name].shape != value.shape:
                raise ValueError(f"{name}: one of the weights lacks it, or has it in another shape")
            result[name] = result[name] + share * (other[name].float() - value)
    return result


def mean(nets):
    """The mean of nets with the same tensors."""
    for other in nets[1:]:
        differ = [name for name in nets[0].keys() | other.keys() if name not in nets[0] or name not in other]
        differ += [name for name in nets[0] if name in other and nets[0][name].shape != other[name].shape]
        if differ:
            raise ValueError(f"{min(differ)}: not all of the weights have it, or not in the same shape")
    return {name: sum(net[name].float() for net in nets) / len(nets) for name in nets[0]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--towards", nargs=2, action="append", metavar=("WEIGHTS", "SHARE"),
        help="a .safetensors file whose training began with the start net, and how far to go; may be repeated",
    )  # fmt: skip
    what.add_argument("--mean", nargs="+", metavar="WEIGHTS", help=".safetensors files to take the mean of")
    p.add_argument("--out", required=True, help="the .safetensors file to write")
    args = p.parse_args()
    try:
        if args.mean:
            result = mean([load_file(path) for path in args.mean])
        else:
            towards = [(load_file(path), float(share)) for path, share in args.towards]
            result = mixed(starts.start_net(), towards)
    except (OSError, ValueError) as error:
        sys.exit(f"mix: {error}")
    with whole(args.out) as beside:
        save_file({name: value.contiguous() for name, value in result.items()}, beside)


if __name__ == "__main__":
    main()
