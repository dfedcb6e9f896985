"""Java and KCL's jars: found without importing anything, and looked at before the daemon is started.

amazon_kclpy and kclpy-ext (which carries its jars in the wheel) install the same Python package, so
what is found lies in the same place either way. A download that broke off while amazon_kclpy was
being built leaves a truncated jar that nothing looks at again: each is opened once here.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import NamedTuple

from streamheal.errors import UsageError

# KCL 3's own classes, and those of every jar looked at, are of Java 8 (class file version 52).
_JAVA_LEAST = 8
_CORE_JAR = re.compile(r"amazon-kinesis-client-(\d[\w.]*)\.jar")
_INSTALL = "pip install 'streamheal[kcl]', or pip install kclpy-ext==3.1.3.post4 where Maven Central cannot be reached"
_ANSWERS_WITHIN_S = 20.0


class Jars(NamedTuple):
    """`version`: KCL's own, such as `3.1.3`."""

    folder: Path
    version: str


def find_jars(folder: Path | None = None) -> Jars:
    """The jars that amazon_kclpy or kclpy-ext has installed; `folder` names others.

    Raises:
        UsageError: There are none, or one of them is broken.
    """
    folder = folder or _installed()
    jars = sorted(folder.glob("*.jar"))
    core = next((found for jar in jars if (found := _CORE_JAR.fullmatch(jar.name))), None)
    if core is None or not any(jar.name.startswith("amazon-kinesis-client-multilang-") for jar in jars):
        raise UsageError(f"the engine kcl needs KCL's jars, and {folder} has none: {_INSTALL}")
    for jar in jars:
        _check(jar)
    return Jars(folder, core[1])


def _installed() -> Path:
    try:
        # Only the finder is asked: the package itself is not for our process.
        found = importlib.util.find_spec("amazon_kclpy")
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"the engine kcl needs KCL's jars, and neither amazon_kclpy nor kclpy-ext is here: {_INSTALL}")
    return Path(next(iter(found.submodule_search_locations))) / "jars"


def _check(jar: Path) -> None:
    try:
        with zipfile.ZipFile(jar):
            return
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{jar.name} in {jar.parent} is broken ({error}), as after a download that broke off. "
            f"Install it anew: pip install --force-reinstall --no-cache-dir the package that brought it"
        ) from error


def find_java() -> str:
    """The `java` to run, of JAVA_HOME or of PATH; tried once.

    Raises:
        UsageError: There is none, it does not run, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        where = f"JAVA_HOME is {home}, and has no bin/java" if home else "there is no java on PATH"
        raise UsageError(f"the engine kcl needs Java {_JAVA_LEAST} or newer: {where}")
    try:
        done = subprocess.run(
            [java, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"the engine kcl needs Java, and {java} does not run: {error}") from error
    said = done.stderr or done.stdout
    # `java version "1.8.0_412"`, `openjdk version "17.0.15" 2025-04-15`
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if done.returncode or found is None:
        raise UsageError(f"the engine kcl needs Java, and {java} -version said: {said.strip()[:200]!r}")
    if int(found[1]) < _JAVA_LEAST:
        raise UsageError(f"the engine kcl needs Java {_JAVA_LEAST} or newer, and {java} is Java {found[1]}")
    return java
