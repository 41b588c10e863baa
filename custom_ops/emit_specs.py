"""Write the C++ header `op_specs.h` from the op.toml files: names, types and order are declared once.

Run by the build as `python emit_specs.py OUTPUT OP_FOLDER...`; needs nothing but the standard library.
"""

import re
import sys
import tomllib
from pathlib import Path

ELEMENTS = {
    "float": "float32",
    "float16": "float16",
    "uint8": "uint8",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint32": "uint32",
}


def header(folders: list[Path]) -> str:
    """Return the text of the header for operators in these folders."""
    parts = [
        "// Written by emit_specs.py from the op.toml files.",
        "#pragma once",
        "",
        '#include "glue/op.h"',
        "",
        "namespace gr::specs {",
    ]
    for folder in folders:
        declared = tomllib.loads((folder / "op.toml").read_text(encoding="utf-8"))
        for side in ("inputs", "outputs"):
            ports = ", ".join(
                f'{{"{port["name"]}", Element::{ELEMENTS[port["type"]]}}}' for port in declared[side]
            )
            parts.append(f"inline constexpr PortSpec {folder.name}_{side}[] = {{{ports}}};")
        parts.append(
            f'inline constexpr OpSpec {folder.name} = {{"{declared["name"]}", {declared["since"]}, '
            f"{folder.name}_inputs, {len(declared['inputs'])}, {folder.name}_outputs, {len(declared['outputs'])}}};"
        )
    each = " ".join(f"X({folder.name})" for folder in folders)
    parts += ["}  // namespace gr::specs", "", f"#define GR_EACH_OP(X) {each}", ""]
    return "\n".join(parts)


def main(arguments: list[str]) -> None:
    """Write the header where its text changed, so that an unchanged one compiles nothing anew."""
    output, folders = Path(arguments[0]), [Path(folder) for folder in arguments[1:]]
    for folder in folders:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", folder.name):
            raise SystemExit(
                f"the folder {folder} names an operator in C++; expected letters, digits and underscores"
            )
    text = header(folders)
    if not output.exists() or output.read_text(encoding="utf-8") != text:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
