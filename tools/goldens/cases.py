"""Reads the case lists of test/cases/*.ts: TypeScript literals of names, numbers, strings, arrays and objects alone."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "test" / "cases"


def read_cases(stem, constant="cases"):
    text = (FOLDER / f"{stem}.ts").read_text()
    match = re.search(rf"export const {constant}\b[^=]*=\s*(\[.*?\n\]);", text, re.S)
    if not match:
        raise ValueError(f"{stem}.ts has no list {constant}")
    literal = re.sub(r"//[^\n]*|/\*.*?\*/", "", match.group(1), flags=re.S)
    literal = literal.replace("'", '"')
    literal = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', literal)
    literal = re.sub(r",(\s*[\]}])", r"\1", literal)
    return json.loads(literal)
