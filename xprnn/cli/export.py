"""``xprnn export``: a saved network as an ONNX file."""

import argparse
from pathlib import Path
from typing import Any

from xprnn.cli.models import ONNX, load_model

HELP = "write a saved network as an ONNX file, for other programs to run"
DESCRIPTION = """\
Write a saved network as an ONNX file, which ONNX Runtime and other programs run, and show its
inputs and outputs.  Its metadata (vocabulary, scaling) is in the file too, so that `xprnn apply`,
`sample` and `inspect` take it as their MODEL.  --seed changes nothing."""
EXAMPLE = """\
examples:
  xprnn export runs/csv/model.safetensors forecaster.onnx
  xprnn apply forecaster.onnx sunspots --steps 11"""

OPTIONAL = {
    "lengths": "optional: the steps of each sequence",
    "state": "optional: the initial state, else zeros",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="the model.safetensors of a training")
    add("file", metavar="OUT.onnx", type=Path, help="the file to write; an old one is replaced")
    add("--dtype", metavar="NAME", help="float32 or float64 (default: the model's own)")


def run(args: argparse.Namespace) -> int:
    """Load, write and print."""
    if args.out is not None:
        raise ValueError("--out: not an option of this command, which writes OUT.onnx alone")
    if args.file.suffix.lower() != ONNX:
        raise ValueError(f"{str(args.file)!r}: expected the name of a file that ends in {ONNX}")
    from xprnn.interop import onnx

    # Before the model is read, so that a missing library is told first.
    export = onnx.export
    net = load_model(args.model, dtype=args.dtype)
    export(net, args.file)
    for line in _ports(args.file):
        print(line)
    print(f"written to {args.file}: {args.file.stat().st_size} bytes")
    return 0


def _ports(path: Path) -> list[str]:
    """Return lines about the inputs and outputs of a file that was just written."""
    from onnx import load_model_from_string as parse

    graph = parse(path.read_bytes()).graph
    optional = {tensor.name for tensor in graph.initializer}
    rows = [("inputs:", "", "", "")]
    for value in graph.input:
        what = OPTIONAL[value.name.partition("_")[0]] if value.name in optional else ""
        rows.append((f"  {value.name}", *_form(value), what))
    rows.append(("outputs:", "", "", ""))
    rows += [(f"  {value.name}", *_form(value), "") for value in graph.output]
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return [
        "  ".join([*(part.ljust(w) for part, w in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]


def _form(value: Any) -> tuple[str, str]:
    """Return an input's or output's shape and dtype; an optional input has a size of its own."""
    from onnx import helper

    tensor = value.type.tensor_type
    sizes = [size.dim_param or str(size.dim_value) for size in tensor.shape.dim]
    sizes = ["B" if size == value.name else size for size in sizes]
    shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    return shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
