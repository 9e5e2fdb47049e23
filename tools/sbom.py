"""What there is of others in an installation, as one CycloneDX file: `make sbom`.

    python -m tools.sbom OUTPUT TOOLS

cyclonedx-py of the folder TOOLS lists the Python packages. TorchServe's jar is one file to it, and
to scanners that go by Maven's marks, of which its build left none: its components are added here.
Then pip-audit asks for known advisories, where it can reach its data.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from catdog_serving.torchserve.java_libraries import LIBRARIES
from catdog_serving.torchserve.properties import parse_properties

# In TorchServe 0.12.0's jar, which does not name them: by the date of their classes, each that of
# one release. What TestNG and Groovy need is left out: they came with a build, and are not used.
_BY_DATE = {
    "com.google.guava:guava": "31.1-jre",
    "com.google.protobuf:protobuf-java": "3.21.7",
    "com.lmax:disruptor": "3.4.4",
    "io.prometheus:simpleclient": "0.9.0",
    "org.apache.commons:commons-compress": "1.25.0",
    "org.codehaus.groovy:groovy": "3.0.9",
    "org.slf4j:slf4j-api": "1.7.32",
    "org.testng:testng": "7.4.0",
}
_GRPC = "io/grpc/internal/GrpcUtil.class"


def torchserve_jar() -> Path:
    return Path(str(distribution("torchserve").locate_file("ts/frontend/model-server.jar")))


def jar_components(jar: Path) -> dict[str, str]:
    """GROUP:ARTIFACT -> version of what is in TorchServe's jar.

    Netty and gRPC are read out of it; the rest is known of TorchServe 0.12.0.
    """
    with zipfile.ZipFile(jar) as packed:
        netty = parse_properties(packed.read("META-INF/io.netty.versions.properties").decode())
        grpc = re.search(rb"1\.\d+\.\d+", packed.read(_GRPC))
    found = {
        f"io.netty:{key.removesuffix('.version')}": value
        for key, value in netty.items()
        if key.endswith(".version")
    }
    if grpc:
        found["io.grpc:grpc-netty-shaded"] = grpc[0].decode()
    for library in LIBRARIES:
        if library.group != "io.netty":
            names = (f"{library.group}:{artifact}" for artifact in library.needed)
            found |= dict.fromkeys(names, library.bundled)
    return found | _BY_DATE


def add_jar(bom: dict[str, Any], jar: Path) -> None:
    """Put the jar's components under TorchServe's, with the jar's SHA-256."""
    (torchserve,) = (part for part in bom["components"] if part["name"] == "torchserve")
    sha256 = hashlib.sha256(jar.read_bytes()).hexdigest()
    torchserve["components"] = [
        {
            "type": "file",
            "bom-ref": jar.name,
            "name": jar.name,
            "version": torchserve["version"],
            "hashes": [{"alg": "SHA-256", "content": sha256}],
            "components": [_component(*entry) for entry in sorted(jar_components(jar).items())],
        }
    ]


def _component(name: str, version: str) -> dict[str, str]:
    group, artifact = name.split(":")
    purl = f"pkg:maven/{group}/{artifact}@{version}"
    return {"type": "library", "bom-ref": purl, "group": group, "name": artifact,
            "version": version, "purl": purl}  # fmt: skip


def list_packages(tools: Path, output: Path) -> None:
    """The Python packages of the environment that this runs in."""
    told = ("--output-format", "JSON", "--output-reproducible", "--output-file", str(output))
    subprocess.run([tools / "cyclonedx-py", "environment", *told, sys.executable], check=True)


def audit(tools: Path, lock: Path) -> str:
    """What pip-audit says of the locked packages; one line where it cannot ask."""
    asked = subprocess.run(
        [tools / "pip-audit", "--vulnerability-service", "osv", "--no-deps", "--disable-pip",
         "--progress-spinner", "off", "--requirement", lock],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if asked.returncode and not asked.stdout.strip():
        *_, last = asked.stderr.strip().splitlines() or ["no answer"]
        return f"pip-audit could not ask for advisories: {last[:100]}"
    return (asked.stdout or asked.stderr).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="list every component, and known advisories")
    parser.add_argument("output", type=Path)
    parser.add_argument("tools", type=Path)
    arguments = parser.parse_args()
    list_packages(arguments.tools, arguments.output)
    bom = json.loads(arguments.output.read_text())
    add_jar(bom, torchserve_jar())
    arguments.output.write_text(json.dumps(bom, indent=1) + "\n")
    print(f"{arguments.output}: {len(bom['components'])} Python packages, "
          f"{len(jar_components(torchserve_jar()))} components of TorchServe's jar")  # fmt: skip
    print(audit(arguments.tools, Path("requirements.lock")))


if __name__ == "__main__":
    main()
