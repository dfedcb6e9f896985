"""Java and KCL's jars: what is found where, and the one plain message when it is not."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.engines.kcl.jars import find_jars, find_java
from streamheal.errors import UsageError

CORE, MULTILANG, OTHER = "amazon-kinesis-client-3.1.3.jar", "amazon-kinesis-client-multilang-3.1.3.jar", "netty.jar"


def jar() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        made.writestr("software/Thing.class", b"\xca\xfe\xba\xbe" * 50)
    return file.getvalue()


JAR = jar()


def folder_of(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(JAR)
    return folder


def test_the_version_is_the_core_jar_s(tmp_path: Path) -> None:
    assert find_jars(folder_of(tmp_path, MULTILANG, OTHER, CORE)) == (tmp_path, "3.1.3")


def test_jars_are_found_beside_a_package_that_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "amazon_kclpy"
    folder_of(package / "jars", CORE, MULTILANG)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.delitem(sys.modules, "amazon_kclpy", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_jars().folder == package / "jars"
    assert "amazon_kclpy" not in sys.modules


def test_without_the_package_both_ways_to_install_it_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "amazon_kclpy", raising=False)
    with pytest.raises(
        UsageError, match=r"neither amazon_kclpy nor kclpy-ext is here: pip install 'streamheal\[kcl\]'"
    ):
        find_jars()


@pytest.mark.parametrize(
    "names", [[], [OTHER], [CORE], [MULTILANG], [CORE, OTHER]], ids=["none", "others", "no multilang", "no core", "two"]
)
def test_a_folder_without_kcl_s_own_jars_has_none(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UsageError, match=r"has none: pip install .*kclpy-ext"):
        find_jars(folder_of(tmp_path / "jars", *names))


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has none"):
        find_jars(tmp_path / "jars")


@given(st.integers(0, len(JAR) - 1))
def test_a_download_that_broke_off_anywhere_is_named(tmp_path_factory: pytest.TempPathFactory, bytes_kept: int) -> None:
    folder = folder_of(tmp_path_factory.mktemp("jars"), CORE, MULTILANG, OTHER)
    (folder / OTHER).write_bytes(JAR[:bytes_kept])
    with pytest.raises(UsageError, match=r"netty\.jar in .* is broken \(.*pip install --force-reinstall"):
        find_jars(folder)


def java(home: Path, says: str, code: int = 0, stream: int = 2) -> Path:
    """A `java` that prints this as its version."""
    made = home / "bin" / "java"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"#!/bin/sh\ncat >&%d <<'END'\n%s\nEND\nexit %d\n" % (stream, says.encode("latin-1"), code))
    made.chmod(0o755)
    return made


SEVENTEEN = 'openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment'


@pytest.mark.parametrize(
    "says",
    [
        SEVENTEEN,
        'java version "1.8.0_412"\nJava(TM) SE Runtime Environment',
        'openjdk version "25" 2025-09-16',
        'openjdk version "9-ea"',
        "Picked up JAVA_TOOL_OPTIONS: -Dfile.encoding=UTF-8\n" + SEVENTEEN,
    ],
    ids=["17", "1.8", "25", "9-ea", "with options"],
)
def test_java_8_and_newer_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    made = java(tmp_path, says)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == str(made)


def test_a_version_on_its_output_is_read_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = java(tmp_path, SEVENTEEN, stream=1)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == str(made)


def test_an_older_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path, 'java version "1.7.0_80"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs Java 8 or newer, and .*/bin/java is Java 7$"):
        find_java()


@pytest.mark.parametrize(
    ("says", "code"),
    [("no idea", 0), (SEVENTEEN, 1), ("", 0), ("\xff\xfe caf\xe9", 0)],
    ids=["other words", "a failure", "nothing", "no UTF-8"],
)
def test_one_that_does_not_say_what_it_is_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int
) -> None:
    java(tmp_path, says, code)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs Java, and .*/bin/java -version said: '"):
        find_java()


def test_one_that_cannot_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = java(tmp_path, SEVENTEEN)
    made.write_bytes(b"\x7fELF but not really")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"/bin/java does not run"):
        find_java()


def test_java_home_wins_over_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path / "old", 'java version "1.7.0"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'old' / 'bin'}:/bin:/usr/bin")
    made = java(tmp_path / "new", SEVENTEEN)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert find_java() == str(made)
    monkeypatch.setenv("JAVA_HOME", "")  # as good as not set
    with pytest.raises(UsageError, match="is Java 7"):
        find_java()


def test_where_java_was_looked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"JAVA_HOME is {tmp_path}, and has no bin/java"):
        find_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no java on PATH"):
        find_java()
