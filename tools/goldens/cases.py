"""Reads `cases` of test/cases/<op>.ts: a TypeScript literal of names, numbers, strings, arrays and objects alone."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "test" / "cases"


def read_cases(op):
    text = (FOLDER / f"{op}.ts").read_text()
    match = re.search(r"export const cases\b[^=]*=\s*(\[.*?\n\]);", text, re.S)
    if not match:
        raise ValueError(f"{op}.ts has no literal list cases")
    literal = re.sub(r"//[^\n]*|/\*.*?\*/", "", match.group(1), flags=re.S)
    literal = literal.replace("'", '"')
    literal = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', literal)
    literal = re.sub(r",(\s*[\]}])", r"\1", literal)
    return json.loads(literal)
