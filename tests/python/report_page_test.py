#!/usr/bin/env python3
"""The report's page, from the server and from the client: well-formed, self-contained, with the report's numbers.

usage: report_page_test.py --build FOLDER [--keep FOLDER]
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET

from halftone_server import Client, Server, SmallModel

EVIL = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&"
SPECS = ["int8/per-channel/dynamic", "int8/per-tensor/weight-only", "fp16", "bf16"]


def Get(server, path):
    """(code, headers, body)."""
    try:
        with urllib.request.urlopen(f"http://{server.metrics_target}{path}", timeout=10) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def EvilModel():
    """SmallModel whose first layer has a name that wants to be markup."""
    import onnx
    model = onnx.load_from_string(SmallModel())
    model.graph.node[0].name = EVIL
    return model.SerializeToString()


def Parse(page):
    """The page as a tree, after what must hold for every page."""
    assert page.startswith("<!DOCTYPE html>\n"), page[:100]
    root = ET.fromstring(page.split("\n", 1)[1])
    names = {element.tag for element in root.iter()}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}, names
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on") and name != "src", (element.tag, name, value)
            assert name != "href" or re.match(r"#layer-\d+$|[\w.-]+(\?spec=[0-9a-f]+)?$", value), value
    assert "//" not in page and "url(" not in page and "@import" not in page
    return root


def Rows(root, table):
    body = root.find(f".//table[@class='{table}']")
    return [[("".join(cell.itertext()), cell) for cell in row.findall("td")] for row in body.findall("tr")[1:]]


def CheckLayers(root, report):
    """Every layer has a row, every bar its length, every quantized layer its histogram."""
    rows = Rows(root, "layers")
    assert [row[0][0] for row in rows] == [layer.node for layer in report.layers]
    finite = [layer.sqnr_db for layer in report.layers if layer.sqnr_db < 999]
    for row, layer in zip(rows, report.layers):
        svg = row[3][1].find("svg")
        width = float(svg.find("rect").get("width")) / float(svg.get("width"))
        want = min(1, layer.sqnr_db / max(finite))
        assert abs(width - want) < 1e-3, (layer.node, width, want)
    for index, layer in enumerate(report.layers):
        picture = root.find(f".//div[@id='layer-{index}']/svg")
        assert (picture is not None) == bool(layer.weights.fp32), layer.node
        assert sum(layer.weights.fp32) == sum(layer.weights.variant)
    assert sum(sum(layer.weights.fp32) for layer in report.layers) == 16 * 64 + 64 * 8


def CheckServer(server, client, variants, keep):
    for model in ("small", "evil"):
        code, headers, page = Get(server, f"/report/{model}")
        assert code == 200 and headers["Content-Type"] == "text/html; charset=utf-8", headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        listed = Rows(Parse(page), "variants")
        assert sorted(row[1][0] for row in listed) == sorted(SPECS), listed
        (keep / f"{model}.html").write_text(page)
        for spec in SPECS:
            for text in (spec, variants[model, spec][:12]):
                code, _, page = Get(server, f"/report/{model}?spec={urllib.parse.quote(text)}")
                assert code == 200, (spec, page)
                root = Parse(page)
                chosen = [row[1][0] for row in Rows(root, "variants")
                          if row[0][1] in root.findall(".//tr[@class='chosen']/td")]
                assert chosen == [spec], chosen
                selector = client.types.VariantSelector(spec_text=spec)
                request = client.quantization_pb.GetReportRequest(model=model, variant=selector)
                CheckLayers(root, client.quantization.GetReport(request))
                circles = root.findall(".//svg[@class='pareto']//circle")
                assert len(circles) == 2 * (len(SPECS) + 1), len(circles)
            (keep / f"{model}-{spec.replace('/', '-')}.html").write_text(page)
        for link in Parse(Get(server, f"/report/{model}")[2]).findall(".//table//a"):
            assert Get(server, f"/report/{link.get('href')}")[0] == 200


def CheckRefusals(server):
    for path in ("/", "/report", "/report/", "/report/none", "/report/small/x", "/report/small?spec=int9",
                 "/report/small?spec=fp32", "/report/small?spec=int8/per-tensor/dynamic",
                 "/report/small?spec=0000000000", "/report/..%2f..%2fetc%2fpasswd", "/reports", "/store",
                 "/report/" + urllib.parse.quote(EVIL), "/report/%00", "/report/small?spec=%ff%00"):
        code, headers, body = Get(server, path)
        assert code == 404, (path, code)
        assert "text/plain" in headers["Content-Type"] or "<script" not in body, (path, body)
    request = urllib.request.Request(f"http://{server.metrics_target}/report/small", data=b"x", method="POST")
    try:
        urllib.request.urlopen(request, timeout=10)
        raise AssertionError("POST was answered")
    except urllib.error.HTTPError as error:
        assert error.code in (404, 405), error.code


def CheckClient(build, server, keep):
    path = keep / "client.html"
    command = [str(build / "client" / "halftone"), "--server", server.target, "report", "evil", "fp16"]
    run = subprocess.run([*command, "--html", str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(path), run.stdout
    root = Parse(path.read_text())
    assert Rows(root, "layers")[0][0][0] == EVIL
    assert not [a for a in root.findall(".//a") if not a.get("href").startswith("#")], "a file has no server"
    run = subprocess.run([*command, "--json", "--html", str(path)], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    assert report["spec_text"] == "fp16" and len(report["layers"][0]["weights"]["fp32"]) == 64, run.stdout
    assert not report["html"], "the page is in the file"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path, help="write the pages here, to look at them")
    arguments = parser.parse_args()
    with Server(arguments.build) as server, tempfile.TemporaryDirectory() as scratch:
        keep = arguments.keep or pathlib.Path(scratch)
        keep.mkdir(exist_ok=True)
        client = Client(server.target)
        client.Upload("small", SmallModel())
        client.Upload("evil", EvilModel())
        assert Get(server, "/report/small")[0] == 200, "a model without variants has a page"
        variants = {(model, spec): client.Quantize(model, spec).variant.id
                    for model in ("small", "evil") for spec in SPECS}
        CheckServer(server, client, variants, keep)
        CheckRefusals(server)
        CheckClient(arguments.build, server, keep)
        assert "halftone_requests_total" in Get(server, "/metrics")[2]
    print("pages are whole, self-contained, and say what the reports say")


if __name__ == "__main__":
    sys.exit(main())
