"""Cycles of the inner convolution loops on ARM by llvm-mca's tables: python3 loops.py RETINAD (built for aarch64).

The loops are found in the program by what they do: the shortest backward branch around most SDOT or SMULL instructions. LLVM has no table
of the Cortex-A76, so its server sibling neoverse-n1 stands for it; its table of the Cortex-A72 is the A57's. Needs llvm-19, binutils for
aarch64. Limits: two SDOT a cycle (32 MAC), one SMULL or SMLAL2 to 16 bits a cycle (8 MAC), one SMLAL or SMLAL2 to 32 bits a cycle (4 MAC,
each for four of the plain convolution: Winograd). Loops that only measure the peak (`spin`) are left out.
"""

import re
import subprocess
import sys

LOOPS = (
    ("sdot", r"sdot\b", "neoverse-n1", 16, 32),
    ("smull", r"(smull2?|smlal2?)\s+v\d+\.8h", "cortex-a72", 8, 8),
    ("smlal, Winograd", r"smlal2?\s+v\d+\.4s", "cortex-a72", 4, 4),
)


def functions(program):
    """Lists of (address, text) of each function of the kernels."""
    text = subprocess.run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", program], check=True, capture_output=True, text=True)
    found = []
    for line in text.stdout.splitlines():
        if line.endswith(">:"):
            found.append((line.split("<")[1][:-2], []))
        elif (match := re.match(r"\s+([0-9a-f]+):\t(.*)", line)) and found:
            found[-1][1].append((int(match[1], 16), match[2]))
    return [lines for name, lines in found if re.search("kernels7aarch64", name) and "spin" not in name]


def innermost(lines, word):
    """The loop with most of `word` among those that hold no other branch; loops of equal count: the shortest."""
    best = (0, 0, [])
    for index, (_, text) in enumerate(lines):
        match = re.match(r"b\.\w+\s+([0-9a-f]+)|cbn?z\s+\w+, ([0-9a-f]+)", text)
        target = int(match[1] or match[2], 16) if match else None
        first = next((i for i, (at, _) in enumerate(lines) if at == target), None)
        if first is None or first >= index:
            continue
        body = lines[first : index + 1]
        if any(re.match(r"b\.|cbn?z|tbn?z|b\s", text) for _, text in body[:-1]):
            continue
        count = sum(bool(re.match(word, text)) for _, text in body)
        best = max(best, (count, -len(body), [text for _, text in body]))
    return best


def main():
    all_functions = functions(sys.argv[1])
    print("| loop | core's table | MAC | instructions | cycles | MAC a cycle | of the port limit |\n|---|---|---|---|---|---|---|")
    for name, word, core, macs_each, limit in LOOPS:
        count, _, body = max(innermost(lines, word) for lines in all_functions)
        if not count:
            raise SystemExit(f"no loop with {name} in {sys.argv[1]}")
        # A branch to an address is none the assembler can place.
        clean = [re.sub(r"\s*(//|<).*", "", text) for text in body]
        clean[-1] = re.sub(r"[0-9a-f]+$", "loop", clean[-1].strip())
        source = "loop:\n" + "\n".join(clean) + "\n"
        command = ["llvm-mca-19", "-mtriple=aarch64-linux-gnu", f"-mcpu={core}", "-mattr=+dotprod", "-iterations=1000"]
        done = subprocess.run(command, input=source, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"llvm-mca: {done.stderr.strip().splitlines()[0]}")
        cycles = int(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / 1000
        macs = count * macs_each
        print(f"| {name} | {core} | {macs} | {len(body)} | {cycles:.1f} | {macs / cycles:.1f} | {macs / cycles / limit:.0%} |")


if __name__ == "__main__":
    main()
