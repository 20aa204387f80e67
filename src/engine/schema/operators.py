"""Writes operators.txt: what each version of each ONNX operator takes, from the `onnx` package.

A line is `Name since inputs outputs attribute:type ...`, inputs and outputs as `least-most` (`*`: without limit), an
attribute that must be there with `!`. Versions that are in force at opset 7 or later are listed; one that ends an
operator is `Name since gone`.

    python src/engine/schema/operators.py > src/engine/schema/operators.txt
"""

import collections
import onnx.defs

FIRST_OPSET = 7
WITHOUT_LIMIT = 2**31 - 1


def count(least, most):
    return f"{least}-{'*' if most >= WITHOUT_LIMIT else most}"


def line(schema):
    if schema.deprecated:
        return f"{schema.name} {schema.since_version} gone"
    attributes = [
        f"{name}{'!' if attribute.required else ''}:{attribute.type.name.lower()}"
        for name, attribute in sorted(schema.attributes.items())
    ]
    inputs = count(schema.min_input, schema.max_input)
    outputs = count(schema.min_output, schema.max_output)
    return " ".join([schema.name, str(schema.since_version), inputs, outputs, *attributes])


versions = collections.defaultdict(list)
for schema in onnx.defs.get_all_schemas_with_history():
    if schema.domain == "":
        versions[schema.name].append(schema)
print(f"opset {FIRST_OPSET} {onnx.defs.onnx_opset_version()}")
for name in sorted(versions):
    ordered = sorted(versions[name], key=lambda schema: schema.since_version)
    for schema, following in zip(ordered, [*ordered[1:], None]):
        if following is None or following.since_version > FIRST_OPSET:
            print(line(schema))
