"""Stand-ins for PyTorch's CPU wheels, where their index cannot be reached.

The ordinary torch and torchvision of requirements.lock are taken from pip's own index, and CUDA's
libraries left out. What is left was linked with those: in their place are some whose functions do
nothing, so that no GPU is found, and torch/_native does not ask for kernels of its own. They
compute as the ordinary ones do, and are for the tests of the image alone. Needs gcc and binutils.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.support.paths import ROOT

_TORCH = ("torch", "torchvision")
_CUDA_LIBRARY = re.compile(r"lib(torch_cuda|c10_cuda|caffe2_nvrtc|torch_nvshmem|cu|nv|nccl)\w*\.so")
_CUDA_REQUIREMENT = re.compile(r"Requires-Dist: (nvidia|cuda|triton)")
_SYSTEM = ("libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "ld-linux-x86-64.so.2")
# Whoever takes what is returned for a pointer finds zeros; as a byte it is 0, so there is no GPU.
_FUNCTION = ".globl {0}\n.type {0}, @function\n{0}: lea zeros(%rip), %rax\nret\n.balign 64\n"
# A constructor gives its object virtual functions that do nothing, and a class's name.
_CONSTRUCTOR = _FUNCTION.replace(
    "lea zeros", "lea virtual+16(%rip), %rax\nmov %rax, (%rdi)\nlea zeros"
)
# A class's type_info is read while modules are loaded: its second word is its name.
_TYPE = '.globl {0}\n.type {0}, @object\n{0}: .quad 0, 1f\n1: .asciz "{0}"\n.balign 8\n'
_FIRST = "libtorch_cuda.so"  # has all that is without a version: torch's own is linked with it
_START = """.bss
.balign 65536
zeros: .zero 65536
.text
nothing: lea zeros(%rip), %rax
ret
.data
class: .quad 0, 1f
1: .asciz "stub"
.balign 8
virtual: .quad 0, class
.rept 64
.quad nothing
.endr
"""


def pinned() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line.split("==")[0] in _TORCH]


def output(*words: str | Path) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


def unpack(wheel: Path, folder: Path) -> Path:
    """Unpack a wheel without CUDA's libraries; all that says so says cpu."""
    tree = folder / wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not _CUDA_LIBRARY.match(name.rsplit("/", 1)[-1]):
                archive.extract(name, tree)
    (information,) = tree.glob("*.dist-info")
    information = information.rename(information.with_suffix("").as_posix() + "+cpu.dist-info")
    metadata = information / "METADATA"
    lines = metadata.read_text().splitlines(keepends=True)
    kept = "".join(line for line in lines if not _CUDA_REQUIREMENT.match(line))
    metadata.write_text(re.sub(r"^(Version: \S+)", r"\1+cpu", kept, count=1, flags=re.MULTILINE))
    for version in tree.glob("torch*/version.py"):
        text = re.sub(r"\+cu\d+", "+cpu", version.read_text())
        version.write_text(re.sub(r"(cuda.*? = )'.*'", r"\1None", text))
    # What puts other kernels before CUDA's asks for those at import.
    for module in tree.glob("torch/_native/__init__.py"):
        module.write_text(module.read_text().replace("registry._register_all_overrides()", "pass"))
    return tree


def symbols(library: Path, which: str) -> set[str]:
    """A library's dynamic symbols, such as "cudaMalloc@libcudart.so.13"; weak ones are none."""
    lines = output("nm", "-D", which, library).splitlines()
    return {line.split()[-1] for line in lines if line.split()[-2] not in "wv"}


def defined_by(library: Path) -> set[str]:
    return {name.partition("@")[0] for name in symbols(library, "--defined-only")}


def versions_needed(library: Path) -> dict[str, set[str]]:
    """The versions that a library asks of each of CUDA's that it was linked with."""
    dynamic = output("readelf", "--wide", "--dynamic", library)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    found: dict[str, set[str]] = {name: set() for name in needed if _CUDA_LIBRARY.match(name)}
    shown = output("readelf", "--wide", "--version-info", library)
    for part in shown.split("File: ")[1:]:
        name = part.split()[0]
        if name in found:
            found[name].update(re.findall(r"Name: (\S+)", part))
    return found


def link(path: Path, names: set[str], versions: set[str]) -> None:
    """A shared library of that name with these symbols, each behind its version if it has one."""
    own: dict[str, list[str]] = {version: [] for version in versions}
    for name in sorted(names):
        symbol, _, version = name.partition("@")
        own.setdefault(version, []).append(symbol)
    functions = [symbol for group in own.values() for symbol in group]
    types = [symbol for symbol in functions if symbol.startswith("_ZTI")]
    texts = [
        (_CONSTRUCTOR if re.search(r"C[12]E", symbol) else _FUNCTION).format(symbol)
        for symbol in functions
        if symbol not in types
    ]
    data = [_TYPE.format(symbol) for symbol in types]
    own.pop("", None)
    script = [f"{version} {{ {''.join(f'{s}; ' for s in own[version])}}};\n" for version in own]
    with tempfile.TemporaryDirectory() as folder:
        source, map_file = Path(folder, "stub.s"), Path(folder, "stub.map")
        source.write_text("".join([_START, ".text\n", *texts, ".data\n", *data]))
        map_file.write_text("".join(script))
        named = [f"-Wl,--version-script={map_file}"] if script else []
        command = ("gcc", "-shared", "-nostdlib", f"-Wl,-soname,{path.name}", *named)
        output(*command, "-o", path, source)


def replace_cuda(trees: list[Path]) -> None:
    """Put stand-ins for what is left out into torch's own folder of libraries."""
    versions: dict[str, set[str]] = {_FIRST: set()}
    wanted: set[str] = set()
    system = [Path(output("gcc", f"-print-file-name={name}").strip()) for name in _SYSTEM]
    defined = {symbol for path in system for symbol in defined_by(path)}
    for tree in trees:
        libraries = sorted(tree.rglob("*.so*"))
        asked = set[str]()
        for library in libraries:
            for name, needed in versions_needed(library).items():
                versions.setdefault(name, set()).update(needed)
            asked |= symbols(library, "--undefined-only")
            if not library.name.startswith("libcudart"):  # torchvision keeps one of its own
                defined |= defined_by(library)
        wanted |= {name for name in asked if name.partition("@")[0] not in defined}
    wanted = {name for name in wanted if not name.startswith(("Py", "_Py"))}  # Python's own
    folder = next(tree for tree in trees if tree.name == "torch") / "torch" / "lib"
    for name, needed in sorted(versions.items()):
        own = {symbol for symbol in wanted if symbol.partition("@")[2] in needed}
        if name == _FIRST:
            own |= {symbol for symbol in wanted if "@" not in symbol}
        link(folder / name, own, needed)


def pack(tree: Path, index: Path) -> None:
    """A wheel of the tree, on a page of its own in the index."""
    (information,) = tree.glob("*.dist-info")
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    names = [path.relative_to(tree).as_posix() for path in files]
    (information / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    tag = re.findall(r"^Tag: (\S+)$", (information / "WHEEL").read_text(), re.MULTILINE)[0]
    page = index / tree.name
    page.mkdir(parents=True, exist_ok=True)
    wheel = page / f"{information.stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path, name in zip(files, names, strict=True):
            archive.write(path, name)
    link_to = wheel.name.replace("+", "%2B")
    (page / "index.html").write_text(f'<a href="{link_to}">{wheel.name}</a>\n')
    print(f"{wheel}, {wheel.stat().st_size / 1e6:.0f} MB", flush=True)


def make_index(index: Path) -> None:
    """Write the wheels, and an index of them, into a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
        output(*download, "--dest", folder, *pinned())
        trees = [unpack(wheel, folder) for wheel in sorted(folder.glob("*.whl"))]
        replace_cuda(trees)
        for tree in trees:
            pack(tree, index)
