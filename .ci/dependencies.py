"""Where the crates that this project depends on come from, and whether their licences let it use them.

Reads the output of `cargo metadata`. Every crate must come from crates.io, with a checksum in Cargo.lock,
and a licence that may be passed on with a permissive one. Known defects of crates are not looked up: the
list of them is no crate.
"""

import json
import re
import sys
import tomllib

# Licences that ask for no more than to be named.
LICENCES = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC",
    "Zlib", "0BSD", "Unlicense", "Unicode-3.0", "BSL-1.0", "CC0-1.0",
}
# The one place that crates come from.
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def may_be_used(expression):
    """Whether an SPDX expression lets this project use the crate. `/` is an old way to write `OR`."""
    tokens = re.findall(r"[()]|[^\s()/]+|/", expression or "")
    if not tokens:
        return False
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def alternatives():
        found = requirements()
        while peek() in ("OR", "/"):
            take()
            found = requirements() or found
        return found

    def requirements():
        found = single()
        while peek() == "AND":
            take()
            found = single() and found
        return found

    def single():
        if peek() == "(":
            take()
            found = alternatives()
            if peek() != ")":
                raise ValueError(f"no closing parenthesis in {expression!r}")
            take()
            return found
        if peek() is None:
            raise ValueError(f"{expression!r} ends early")
        name = take()
        if peek() == "WITH":
            take()
            name += " WITH " + take()
        return name in LICENCES

    found = alternatives()
    if peek() is not None:
        raise ValueError(f"{peek()!r} is not understood in {expression!r}")
    return found


def main():
    metadata = json.load(sys.stdin)
    with open("Cargo.lock", "rb") as file:
        locked = {(p["name"], p["version"]): p for p in tomllib.load(file)["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    members = set(metadata["workspace_members"])
    faults = []
    for package in packages.values():
        name = f"{package['name']} {package['version']}"
        try:
            if not may_be_used(package["license"]):
                faults.append(f"{name}: licence {package['license']!r}")
        except ValueError as error:
            faults.append(f"{name}: {error}")
        if package["id"] in members:
            continue
        if package["source"] != REGISTRY:
            faults.append(f"{name}: comes from {package['source']}, not from crates.io")
        if "checksum" not in locked.get((package["name"], package["version"]), {}):
            faults.append(f"{name}: Cargo.lock has no checksum of it")
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(packages)} packages, from here or from crates.io, under licences that may be used")


# The parser is tried where it matters: each of these has been misread by a simpler one.
assert may_be_used("MIT/Apache-2.0") and may_be_used("MIT OR LGPL-2.1-or-later")
assert may_be_used("(MIT OR Apache-2.0) AND Unicode-3.0") and not may_be_used("(MIT OR Zlib) AND GPL-3.0")
assert may_be_used("Apache-2.0 WITH LLVM-exception OR GPL-2.0") and not may_be_used("GPL-3.0 WITH X")
assert not may_be_used("MIT AND GPL-3.0") and not may_be_used(None)

if __name__ == "__main__":
    main()
