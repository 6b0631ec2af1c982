#!/usr/bin/env python3
"""What docker/ and deploy/ promise: security settings, ports, packages and metric names that exist."""
import argparse
import re
import shutil
import subprocess
import sys

import halftone_server
from halftone_server import ROOT

MATCHER = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
METRIC = re.compile(r"\b((?:halftone|process)_[a-z0-9_]+)\b")
PACKAGE = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)")  # in dpkg's lists
LABEL_NAME = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"')


def Kustomized():
    import yaml
    if not shutil.which("kustomize"):
        halftone_server.Skip("kustomize is missing")
    text = subprocess.run(["kustomize", "build", ROOT / "deploy" / "base"], check=True,
                          capture_output=True, text=True).stdout
    documents = list(yaml.safe_load_all(text))
    return {d["kind"]: d for d in documents}


def CheckManifests():
    kinds = Kustomized()
    assert set(kinds) == {"ServiceAccount", "PersistentVolumeClaim", "Deployment", "Service",
                          "ServiceMonitor"}, sorted(kinds)
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    container, = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    assert kinds["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    # Read-only root: everything that is written to must be a volume.
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/var/lib/halftone", "/tmp"}
    assert "--store=/var/lib/halftone" in container["args"]

    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"grpc": 8001, "metrics": 8002}, ports
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports["grpc"], probe
    assert container["resources"]["requests"] == container["resources"]["limits"]

    service = {p["name"]: p for p in kinds["Service"]["spec"]["ports"]}
    assert service["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    assert service["metrics"]["port"] == 8002
    monitor = kinds["ServiceMonitor"]["spec"]
    assert [e["port"] for e in monitor["endpoints"]] == ["metrics"]
    wanted = monitor["selector"]["matchLabels"].items()
    assert wanted <= kinds["Service"]["metadata"]["labels"].items()
    selector = kinds["Service"]["spec"]["selector"].items()
    assert selector <= kinds["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]
              if "persistentVolumeClaim" in v}
    assert claims == {kinds["PersistentVolumeClaim"]["metadata"]["name"]}


def CheckImage():
    import yaml
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    user = re.findall(r"^USER (\S+)$", dockerfile, re.M)
    assert user and user[-1].split(":")[0].isdigit(), "USER must be a number"
    pod = Kustomized()["Deployment"]["spec"]["template"]["spec"]
    assert int(user[-1].split(":")[0]) == pod["securityContext"]["runAsUser"]
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    assert {"halftone", "prometheus", "grafana"} == set(services)
    # Every file that a container is given exists.
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "docker" / source).resolve().exists(), f"{name}: {source}"
    scrape = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape[0]["static_configs"][0]["targets"] == ["halftone:8002"]


def Listed(section):
    """Packages of one section of docker/packages.txt."""
    packages, current = set(), None
    for line in (ROOT / "docker" / "packages.txt").read_text().splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif line and line[0].islower() and current == section:
            packages.add(line.split()[0])
    return packages


def Dependencies(packages):
    """The packages and everything that they depend on, as dpkg knows it."""
    listing = subprocess.run(["dpkg-query", "-W", "-f", "${Package}|${Provides}\n"], check=True,
                             capture_output=True, text=True).stdout
    providers = {}  # of virtual packages
    for line in listing.splitlines():
        package, provides = line.split("|")
        for virtual in re.findall(PACKAGE, provides):
            providers.setdefault(virtual, []).append(package)
    found, todo = set(), list(packages)
    while todo:
        package = todo.pop()
        if package in found:
            continue
        found.add(package)
        answer = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Depends}, ${Pre-Depends}\n", package],
            capture_output=True, text=True, check=False).stdout
        for dependency in re.findall(PACKAGE, answer):
            todo += [dependency, *providers.get(dependency, [])]
    return found


def CheckRuntimePackages(build):
    """Every shared library of the built programs comes from a [runtime] package."""
    if not shutil.which("dpkg"):
        print("runtime packages: not checked, dpkg is missing")
        return
    installed = Dependencies(Listed("runtime"))
    for program in (f"{build}/server/halftone-server", f"{build}/client/halftone"):
        for line in subprocess.run(["ldd", program], check=True, capture_output=True,
                                   text=True).stdout.splitlines():
            library = re.search(r"=> (/\S+)", line)
            if not library:
                continue
            name = library.group(1).rsplit("/", 1)[1]
            owners = subprocess.run(["dpkg", "-S", f"*/{name}"], check=True, capture_output=True,
                                    text=True).stdout
            packages = {owner.split(":")[0] for owner in owners.splitlines()}
            assert packages & installed, f"{program} needs {name} of {packages}: add it to [runtime]"


def CheckDashboard(build):
    """Each metric and each label that a query matches on is really exported."""
    with halftone_server.Server(build) as server:
        halftone_server.ServeSmallModel(server)
        exported = server.Metrics()
    queries = halftone_server.DashboardQueries()
    variables = [("variable " + v["name"], v["definition"])
                 for v in halftone_server.Dashboard()["templating"]["list"] if "definition" in v]
    assert len(queries) > 20
    used = set()
    for title, query in queries + variables:
        for name in METRIC.findall(query):
            used.add(name)
            assert name in exported, f"'{title}': the server does not export {name}"
        for name, matchers in MATCHER.findall(query):
            for label in LABEL_NAME.findall(matchers):
                labels = set().union(*(series for series, _ in exported[name]))
                # Prometheus itself adds these two.
                assert label in labels | {"job", "instance"}, f"'{title}': {name} has no {label}"
    print(f"dashboard: {len(queries)} queries, {len(used)} metrics")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    CheckManifests()
    CheckImage()
    CheckRuntimePackages(args.build)
    CheckDashboard(args.build)


if __name__ == "__main__":
    sys.exit(main())
