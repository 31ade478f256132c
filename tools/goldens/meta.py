"""Metadata of fixtures: one key, because safetensors writes several in an order that changes from run to run."""

import json


def golden_metadata(**fields):
    return {"golden": json.dumps(fields, default=str)}
