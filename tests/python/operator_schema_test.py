#!/usr/bin/env python3
"""The operator table against ONNX's schemas, against its tests, and against docs/operators.md."""
import argparse
import json
import pathlib
import re
import subprocess

import onnx
from onnx import defs

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLDEST_OPSET, NEWEST_OPSET = 7, 22

NOT_WANTED = {
    "sequence": """ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase
                   SequenceInsert SequenceLength SequenceMap SplitToSequence""",
    "optional": "Optional OptionalGetElement OptionalHasElement",
    "string": "RegexFullMatch StringConcat StringNormalizer StringSplit",
}
# Versions that changed what inputs mean, which a schema cannot say.
CHANGED_MEANING = {("GroupNormalization", 21)}
# ONNX Runtime writes these into the domain ai.onnx, whatever the opset.
FROM_ONNX_RUNTIME = {("LayerNormalization", 1), ("SimplifiedLayerNormalization", 1)}
# Scan-8 wants two inputs, but the first of them may be absent.
MAY_HAVE_FEWER_INPUTS = {("Scan", 8)}

problems = []


def check(condition, *what):
    if not condition:
        problems.append(" ".join(str(w) for w in what))


def tensor_type(onnx_code):
    return f"tensor({onnx.TensorProto.DataType.Name(onnx_code).lower()})"


def numbers(types):
    """Of the types that a schema allows, those that Halftone wants."""
    return {t for t in types if re.fullmatch(r"tensor\((?!string|complex).*\)", t)}


def limit(count):
    return -1 if count == 2**31 - 1 else count


def schemas_since(opset):
    """Operator → versions from the one in force at `opset` on, oldest first."""
    out = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= NEWEST_OPSET:
            out.setdefault(schema.name, []).append(schema)
    for name, versions in out.items():
        versions.sort(key=lambda s: s.since_version)
        before = [s for s in versions if s.since_version <= opset]
        out[name] = before[-1:] + [s for s in versions if s.since_version > opset]
    return out


def is_incompatible(old, new):
    """Whether a model of the old version may mean something else, or nothing, in the new one."""
    if (new.name, new.since_version) in CHANGED_MEANING:
        return True
    for name, attribute in old.attributes.items():
        later = new.attributes.get(name)
        if later is None or later.default_value != attribute.default_value:
            return True
    if new.min_input > old.min_input or new.max_input < old.max_input:
        return True
    if new.max_output < old.max_output:
        return True
    return any(not set(a.types) & set(b.types) for a, b in zip(old.outputs, new.outputs))


class Table:
    def __init__(self, runner):
        run = subprocess.run([runner], input='{"road": "table"}', capture_output=True, text=True,
                             check=True)
        self.rows = {}
        for row in json.loads(run.stdout)["rows"]:
            self.rows.setdefault((row["domain"], row["name"]), []).append(row)

    def find(self, name, opset, domain=""):
        older = [r for r in self.rows.get((domain, name), []) if r["since"] <= opset]
        return older[-1] if older else None


def check_row(row, schema, covered):
    where = f"{schema.name}-{schema.since_version}:"
    low, high = row["inputs"]
    if (schema.name, row["since"]) not in MAY_HAVE_FEWER_INPUTS:
        check(low == min(s.min_input for s in covered), where, "the row wants", low, "inputs or more")
    check(high == limit(max(s.max_input for s in covered)), where, "the row takes", high, "inputs")
    low, high = row["outputs"]
    check(low <= schema.min_output, where, "the row wants", low, "outputs or more")
    check(high == limit(max(s.max_output for s in covered)), where, "the row gives", high, "outputs")
    if schema.inputs:
        missing = numbers(schema.inputs[0].types) - {tensor_type(t) for t in row["types"]}
        check(not missing, where, "input 0 may not be", *sorted(missing))


def check_schemas(table):
    unwanted = {name for names in NOT_WANTED.values() for name in names.split()}
    history = schemas_since(OLDEST_OPSET)
    for name, versions in history.items():
        has_rows = ("", name) in table.rows
        check(not (has_rows and name in unwanted), name, "is in the table and not wanted")
        if name in unwanted:
            continue
        versions = [s for s in versions if not s.deprecated]
        for old, schema in zip([None, *versions], versions):
            row = table.find(name, schema.since_version)
            if row is None:  # then import expands its body
                check(schema.has_function or schema.has_context_dependent_function,
                      f"{name}-{schema.since_version} has neither a row nor a body")
                continue
            if old is not None and is_incompatible(old, schema):
                check(row["since"] == schema.since_version, f"{name}-{schema.since_version}",
                      "differs from the version before and has no row of its own")
            check_row(row, schema, [s for s in versions if table.find(name, s.since_version) is row])
    known = {(s.name, s.since_version) for s in defs.get_all_schemas_with_history() if not s.domain}
    known |= FROM_ONNX_RUNTIME
    for (domain, name), rows in table.rows.items():
        for row in rows:
            check(domain or (name, row["since"]) in known, f"ONNX has no {name}-{row['since']}")


def tested_operators():
    """(operator, opset) of every case in tests/unit/ops."""
    text = "".join(p.read_text() for p in sorted((ROOT / "tests/unit/ops").glob("*.cc")))
    for op, opset in re.findall(r'\{\s*(?:"\w+",\s*)?"(\w+)",\s*(\d+)\b', text):
        yield op, int(opset)
    for op, opset in re.findall(r'\.op = "(\w+)"(?:,\s*\.opset = (\d+))?', text):
        yield op, int(opset or 17)


def composed_operators():
    """Operators that microsoft_operators_test.py compares with ONNX Runtime, or composite_test.cc with numbers."""
    text = (ROOT / "tests/python/microsoft_operators_test.py").read_text()
    text += (ROOT / "tests/unit/ops/composite_test.cc").read_text()
    return {(name, 1) for name in re.findall(r'"([A-Z]\w+)"', text)}


def own_operators():
    """Operators of our own domain in the tests that are theirs."""
    folder = ROOT / "tests/unit/ops"
    text = "".join((folder / name).read_text() for name in ("unpack_test.cc", "row_quant_test.cc"))
    return {(name, 1) for name in re.findall(r"(?:UnpackGraph\(|string\()k(\w+)", text)}


def conformance_operators():
    """(operator, opset) of every node in a conformance case that the manifest expects to pass."""
    manifest = ROOT / "tests/conformance/manifest.txt"
    if not manifest.exists():
        return
    from onnx.backend.test.case import node
    passes = set(re.findall(r"^(\w+) pass", manifest.read_text(), re.M))
    for case in node.collect_testcases(None):
        if case.name not in passes:
            continue
        opset = next(i.version for i in case.model.opset_import if i.domain in ("", "ai.onnx"))
        for n in case.model.graph.node:
            yield n.op_type, opset


def check_tested(table):
    composed = {id(table.find(name, opset, "" if (name, opset) in FROM_ONNX_RUNTIME else "com.microsoft"))
                for name, opset in composed_operators()}
    composed |= {id(table.find(name, opset, "halftone")) for name, opset in own_operators()}

    def untested(tested):
        found = composed | {id(table.find(op, opset)) for op, opset in tested}
        return [r for rows in table.rows.values() for r in rows if id(r) not in found]

    tested = list(tested_operators())
    if untested(tested):  # making the conformance cases takes a while
        tested += conformance_operators()
    for row in untested(tested):
        check(False, f"{row['name']}-{row['since']} has no case in tests/unit/ops and no conformance line")


def check_document(program):
    path = ROOT / "docs/operators.md"
    want = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    check(path.exists() and path.read_text() == want,
          "docs/operators.md is not what the table says; its first line tells how to write it")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    programs = parser.parse_args().build / "tests"
    table = Table(programs / "model_runner")
    check_schemas(table)
    check_tested(table)
    check_document(programs / "operator_table")
    if problems:
        raise SystemExit("\n".join(problems))
    rows = sum(len(r) for r in table.rows.values())
    print(f"{len(table.rows)} operators in {rows} rows agree with onnx {onnx.__version__}")


if __name__ == "__main__":
    main()
