"""Where settings come from, and what is said when one is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamheal.config.load import Loaded, load
from streamheal.config.settings import config_hash, every_setting, for_application, kebab
from streamheal.errors import UsageError

ENOUGH = {"target": "shop.orders:Orders", "stream": "orders"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def loaded(folder: Path, environ: dict[str, str] | None = None, command: str = "run", **flags: Any) -> Loaded:
    return load({**ENOUGH, **flags}, command=command, environ=environ or {}, folder=folder)


def complaint(folder: Path, environ: dict[str, str] | None = None, command: str = "run", **flags: Any) -> str:
    with pytest.raises(UsageError) as raised:
        loaded(folder, environ, command, **flags)
    return str(raised.value)


# -- the order of the sources ----------------------------------------------------------------


def test_a_flag_wins_over_the_environment_which_wins_over_the_file_which_wins_over_the_default(folder: Path) -> None:
    default = loaded(folder)
    (folder / "streamheal.toml").write_text("attempts_max = 4\n")
    file = loaded(folder)
    environment = loaded(folder, {"STREAMHEAL_ATTEMPTS_MAX": "5"})
    flag = loaded(folder, {"STREAMHEAL_ATTEMPTS_MAX": "5"}, attempts_max="6")

    assert [one.settings.attempts_max for one in (default, file, environment, flag)] == [3, 4, 5, 6]
    assert [str(one.origins["attempts_max"]) for one in (default, file, environment, flag)] == [
        "default",
        "streamheal.toml: attempts_max",
        "STREAMHEAL_ATTEMPTS_MAX",
        "--attempts-max",
    ]


def test_pyproject_is_read_where_there_is_no_file_of_our_own(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n[tool.streamheal]\nordering = "none"\n')
    assert loaded(folder).settings.ordering == "none"
    assert str(loaded(folder).origins["ordering"]) == "pyproject.toml [tool.streamheal]: ordering"

    (folder / "streamheal.toml").write_text("workers = 1\n")
    assert loaded(folder).settings.ordering == "key"


def test_a_pyproject_of_somebody_else_says_nothing(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    assert loaded(folder).origins["ordering"].kind == "default"


def test_a_variable_set_to_nothing_is_not_set(folder: Path) -> None:
    assert loaded(folder, {"STREAMHEAL_WORKERS": ""}).origins["workers"].kind == "default"


def test_every_setting_can_come_from_every_source(folder: Path) -> None:
    """Text is good for all of them: that is what flags and variables have."""
    (folder / "kcl.properties").write_text("maxRecords = 500\n")
    texts = {
        "target": "a:b", "stream": "s", "engine": "kcl", "application": "x", "from": "LATEST",
        "worker_id": "w1", "kcl_properties": str(folder / "kcl.properties"), "kcl_heap": "300MiB",
        "until_caught_up": "true", "quarantine": "s3://bucket/prefix", "state": "dynamodb:table", "workers": "2",
        "concurrency": "9", "ordering": "none", "deadline_s": "1.5", "worker_memory": "1GiB",
        "on_poison": "skip", "attempts_max": "2", "retry_s_min": "0.1", "retry_s_max": "7", "patience_s": "8",
        "checkpoint_s": "2", "shutdown_s": "3",
        "open_records_max": "10", "open_bytes_max": "1MiB", "http": "off", "emf": "true", "log_level": "debug",
        "blocked_s": "9", "region": "eu-west-1", "profile": "me", "endpoint_url": "http://127.0.0.1:4566",
    }  # fmt: skip
    assert set(texts) == {one.key for one in every_setting()}

    by_flag = load({one.name: texts[one.key] for one in every_setting()}, command="run", environ={}, folder=folder)
    by_variable = load(
        {}, command="run", environ={one.variable: texts[one.key] for one in every_setting()}, folder=folder
    )
    (folder / "streamheal.toml").write_text("".join(f"{key} = '{text}'\n" for key, text in texts.items()))
    by_file = load({}, command="run", environ={}, folder=folder)

    assert by_flag.settings == by_variable.settings == by_file.settings
    assert by_flag.settings.open_bytes_max == 1 << 20
    assert by_flag.settings.until_caught_up is True
    assert by_flag.kcl == by_file.kcl == {"maxRecords": "500"}
    assert {origin.kind for origin in by_file.origins.values()} == {"file"}


# -- what is filled in -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("shop.orders:Orders", "orders"),
        ("shop:OrderLines", "order-lines"),
        ("shop:HTTPOrders", "http-orders"),
        ("shop:Orders2Go", "orders2-go"),
        ("shop:Outer.Inner", "inner"),
        ("shop:handle_order", "handle-order"),
        ("shop:_handle", "handle"),
    ],
)
def test_the_application_is_named_after_the_target(target: str, name: str) -> None:
    assert kebab(target) == name


def test_the_state_is_named_after_the_application(folder: Path) -> None:
    assert loaded(folder).settings.application == "orders"
    assert loaded(folder).settings.state == "sqlite:.streamheal/orders.db"
    assert loaded(folder, application="shop").settings.state == "sqlite:.streamheal/shop.db"
    assert loaded(folder, state="dynamodb:t").settings.state == "dynamodb:t"


def test_commands_that_only_look_need_no_target(folder: Path) -> None:
    settings = load({}, command="quarantine", environ={}, folder=folder).settings
    assert (settings.application, settings.state) == ("", "")
    assert for_application(settings, "orders").state == "sqlite:.streamheal/orders.db"


def test_a_replays_target_does_not_say_whose_records_are_meant(folder: Path) -> None:
    """`--target` there is who is to handle them; a file names the project's own processor."""
    assert loaded(folder, command="replay", target="shop.fixed:Better").settings.application == ""
    environ = {"STREAMHEAL_TARGET": "shop.orders:Orders"}
    assert loaded(folder, environ, command="replay", target=None).settings.application == "orders"


def test_a_time_without_a_zone_is_in_utc(folder: Path) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert loaded(folder, start="2026-03-01T12:00:00").settings.start == noon
    assert loaded(folder, start="2026-03-01T13:00:00+01:00").settings.start == noon
    (folder / "streamheal.toml").write_text("from = 2026-03-01T12:00:00Z\n")
    assert loaded(folder).settings.start == noon


def test_sizes_are_written_as_people_write_them(folder: Path) -> None:
    found = [loaded(folder, open_bytes_max=text).settings.open_bytes_max for text in ("67108864", "64MiB", "64 mb")]
    assert found == [67_108_864, 67_108_864, 64_000_000]


def test_the_hash_tells_settings_apart_by_how_records_are_handled(folder: Path) -> None:
    plain = config_hash(loaded(folder).settings)
    assert config_hash(loaded(folder, http="off", workers="1", region="eu-west-1").settings) == plain
    assert config_hash(loaded(folder, deadline_s="5").settings) != plain


def test_the_http_address_is_a_host_and_a_port(folder: Path) -> None:
    assert loaded(folder).settings.http_address == ("127.0.0.1", 9464)
    assert loaded(folder, http="[::1]:0").settings.http_address == ("::1", 0)
    assert loaded(folder, http="off").settings.http_address is None


# -- what is said when something is wrong --------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("workers", "two", "--workers is 'two': expected a whole number, at least 1"),
        ("workers", "0", "--workers is '0': expected a whole number, at least 1"),
        ("attempts_max", "2.5", "--attempts-max is '2.5': expected a whole number, at least 1"),
        ("deadline_s", "0", "--deadline-s is '0': expected a number of seconds, more than 0"),
        ("patience_s", "-1", "--patience-s is '-1': expected a number of seconds, at least 0"),
        ("retry_s_max", "inf", "--retry-s-max is 'inf': expected a number of seconds, at least 0"),
        ("ordering", "keys", "--ordering is 'keys': expected shard, key or none. Did you mean key?"),
        ("http", "9464", "--http is '9464': expected HOST:PORT such as 127.0.0.1:9464, or off"),
        ("http", "localhost:99999", "--http is 'localhost:99999': expected HOST:PORT such as 127.0.0.1:9464, or off"),
        ("start", "yesterday", "--from is 'yesterday': expected TRIM_HORIZON, LATEST, "
                               "or a time such as 2026-03-01T12:00:00Z"),
        ("open_bytes_max", "64 megs", "--open-bytes-max is '64 megs': expected a size such as 64MiB, 1GiB or 67108864, "
                                      "at least 1"),
        ("state", "orders.db", "--state is 'orders.db': expected sqlite:PATH or dynamodb:TABLE"),
        ("target", "shop.orders", "TARGET is 'shop.orders': expected module:Class or module:function"),
        ("application", "my orders", "--application is 'my orders': expected letters, digits, '-', '_' and '.'"),
        ("stream", "orders/1", "--stream is 'orders/1': expected a stream's name"),
        ("endpoint_url", "localhost:4566", "--endpoint-url is 'localhost:4566': "
                                           "expected a URL such as http://127.0.0.1:4566"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_named_with_what_would_be_right(folder: Path, field: str, value: str, message: str) -> None:
    assert complaint(folder, **{field: value}) == message


def test_a_wrong_variable_is_named(folder: Path) -> None:
    assert complaint(folder, {"STREAMHEAL_UNTIL_CAUGHT_UP": "perhaps"}) == (
        "STREAMHEAL_UNTIL_CAUGHT_UP is 'perhaps': expected true or false"
    )


def test_a_wrong_value_in_a_file_is_named_with_the_file_and_the_key(folder: Path) -> None:
    (folder / "streamheal.toml").write_text("workers = true\n")
    assert complaint(folder) == "streamheal.toml: workers is True: expected a whole number, at least 1"
    (folder / "streamheal.toml").unlink()
    (folder / "pyproject.toml").write_text("[tool.streamheal]\ndeadline_s = [1]\n")
    assert complaint(folder) == (
        "pyproject.toml [tool.streamheal]: deadline_s is [1]: expected a number of seconds, more than 0"
    )


def test_an_unknown_key_in_a_file_is_wrong_usage(folder: Path) -> None:
    (folder / "streamheal.toml").write_text("deadline = 3\n")
    assert complaint(folder) == "streamheal.toml: there is no option 'deadline'. Did you mean deadline_s?"
    (folder / "streamheal.toml").write_text("until-caught-up = true\n")
    assert complaint(folder) == "streamheal.toml: there is no option 'until-caught-up'. Did you mean until_caught_up?"
    (folder / "streamheal.toml").write_text("[run]\nworkers = 1\n")
    assert complaint(folder) == "streamheal.toml: there is no option 'run'"


def test_an_unknown_variable_is_only_warned_of(folder: Path) -> None:
    """Containers share their environment with much else."""
    assert loaded(folder, {"STREAMHEAL_WORKER": "1", "HOME": "/"}).warnings == (
        "the variable STREAMHEAL_WORKER names no option. Did you mean STREAMHEAL_WORKERS?",
    )


def test_a_file_that_is_not_toml_or_not_a_table_is_wrong_usage(folder: Path) -> None:
    (folder / "streamheal.toml").write_text("workers: 1\n")
    assert complaint(folder).startswith("streamheal.toml is not TOML: ")
    (folder / "streamheal.toml").unlink()
    (folder / "pyproject.toml").write_text("[tool]\nstreamheal = 1\n")
    assert complaint(folder) == "pyproject.toml: tool.streamheal is 1: expected a table, [tool.streamheal]"


def test_a_file_that_cannot_be_read_is_wrong_usage(folder: Path) -> None:
    (folder / "streamheal.toml").mkdir()
    assert complaint(folder) == "streamheal.toml cannot be read: Is a directory"


def test_settings_that_contradict_each_other_are_both_named(folder: Path) -> None:
    assert complaint(folder, {"STREAMHEAL_RETRY_S_MAX": "2"}, retry_s_min="3") == (
        "retry_s_min is 3 (--retry-s-min), more than retry_s_max, 2 (STREAMHEAL_RETRY_S_MAX): expected at most that"
    )


def test_a_run_needs_a_target_and_a_stream(folder: Path) -> None:
    assert complaint(folder, target=None).startswith("no TARGET: give the processor as module:Class")
    assert complaint(folder, stream=None).startswith("no stream: give --stream NAME")


@pytest.mark.parametrize("command", ["run", "replay"])
def test_what_a_later_version_brings_is_refused_plainly(folder: Path, command: str) -> None:
    assert complaint(folder, {"STREAMHEAL_ON_POISON": "park"}, command=command) == (
        "parking keys is not part of this version yet (STREAMHEAL_ON_POISON): use skip"
    )


# -- the properties of an amazon_kclpy application -------------------------------------------


def properties(folder: Path, text: str) -> str:
    path = folder / "shop.properties"
    path.write_text(text)
    return str(path)


def test_a_properties_file_names_stream_application_and_start_and_means_the_engine_kcl(folder: Path) -> None:
    """What is KCL's own is handed on as it stands; the executable is ours."""
    path = properties(
        folder,
        "executableName = sample.py\nprocessingLanguage = python/3.8\nstreamName = words\n"
        "applicationName = WordCount\ninitialPositionInStream = trim_horizon\nregionName: eu-west-1\n"
        "! a comment\nmaxRecords = 500\nAwsCredentialsProvider = DefaultCredentialsProvider\n",
    )
    found = loaded(folder, stream=None, kcl_properties=path)

    settings = found.settings
    assert (settings.engine, settings.stream, settings.application) == ("kcl", "words", "WordCount")
    assert (settings.start, settings.region, settings.state) == (
        "TRIM_HORIZON",
        "eu-west-1",
        "dynamodb:WordCount-streamheal",
    )
    assert found.kcl == {"maxRecords": "500", "AwsCredentialsProvider": "DefaultCredentialsProvider"}
    assert str(found.origins["stream"]) == "shop.properties: streamName"
    assert str(found.origins["engine"]) == "--kcl-properties"


def test_a_flag_wins_over_the_properties_file(folder: Path) -> None:
    path = properties(folder, "streamName = words\ninitialPositionInStream = LATEST\n")
    settings = loaded(folder, kcl_properties=path, stream="others", start="TRIM_HORIZON").settings
    assert (settings.stream, settings.start) == ("others", "TRIM_HORIZON")


def test_a_properties_file_that_says_nothing_of_a_start_begins_where_kcl_would(folder: Path) -> None:
    assert loaded(folder, kcl_properties=properties(folder, "streamName = words\n")).settings.start == "LATEST"


def test_a_start_in_seconds_is_a_time(folder: Path) -> None:
    text = "streamName = words\ninitialPositionInStreamExtended = 1772366400\n"
    assert loaded(folder, kcl_properties=properties(folder, text)).settings.start == datetime(
        2026, 3, 1, 12, tzinfo=UTC
    )


def test_a_stream_may_be_named_by_its_arn(folder: Path) -> None:
    text = "streamArn = arn:aws:kinesis:eu-west-1:123456789012:stream/words\n"
    settings = loaded(folder, stream=None, kcl_properties=properties(folder, text)).settings
    assert (settings.stream, settings.region) == ("words", "eu-west-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "initialPositionInStream = SOMEWHERE\n",
            "shop.properties: initialPositionInStream is 'SOMEWHERE': "
            "expected TRIM_HORIZON, LATEST, or a time such as 2026-03-01T12:00:00Z",
        ),
        (
            "initialPositionInStreamExtended = noon\n",
            "shop.properties: initialPositionInStreamExtended is 'noon': expected seconds since 1970-01-01 (UTC)",
        ),
        (
            "streamName = a stream\n",
            "shop.properties: streamName is 'a stream': expected a stream's name",
        ),
        (
            "streamName = words\nfailoverTimeMillis = 10s\n",
            "shop.properties: failoverTimeMillis is '10s': expected a whole number, without a unit",
        ),
        (
            "applicationName = WordCount\n",
            "no stream: give --stream NAME (or STREAMHEAL_STREAM, or stream in streamheal.toml, "
            "or streamName in shop.properties)",
        ),
    ],
)
def test_a_value_that_cannot_be_right_is_told_with_its_key(folder: Path, text: str, message: str) -> None:
    assert complaint(folder, stream=None, kcl_properties=properties(folder, text)) == message


def test_a_property_that_kcl_does_not_know_is_warned_of_and_handed_on(folder: Path) -> None:
    """A later KCL may know it."""
    text = (
        "streamName = words\nmaxRecord = 5\nAWSCredentialsProvider = X\nkinesisClient.region = eu-west-1\n"
        "workerMetricsEMAAlpha = 0.5\nmaxRecords = 5\nours = 1\n"
    )
    found = loaded(folder, kcl_properties=properties(folder, text))
    assert found.warnings == (
        "shop.properties: KCL knows no property maxRecord, and passes over it. Did you mean maxRecords?",
        "shop.properties: KCL knows no property ours, and passes over it",
    )
    assert found.kcl["maxRecord"] == "5"


def test_a_properties_file_that_cannot_be_read_is_told(folder: Path) -> None:
    assert complaint(folder, kcl_properties=str(folder)) == (
        f"--kcl-properties: {folder} cannot be read: Is a directory"
    )


def test_a_properties_file_that_is_not_there_is_told(folder: Path) -> None:
    assert complaint(folder, kcl_properties=str(folder / "no.properties")) == (
        f"--kcl-properties: there is no file {folder / 'no.properties'}"
    )


def test_what_only_kcl_has_is_refused_for_another_engine(folder: Path) -> None:
    assert complaint(folder, engine="poll", worker_id="w1") == (
        "--worker-id is for the engine kcl, and the engine is poll (--engine)"
    )
    path = properties(folder, "streamName = words\n")
    assert complaint(folder, {"STREAMHEAL_ENGINE": "poll"}, kcl_properties=path) == (
        "--kcl-properties is for the engine kcl, and the engine is poll (STREAMHEAL_ENGINE)"
    )


def test_kcl_keeps_its_state_where_a_fleet_can_see_it(folder: Path) -> None:
    assert loaded(folder, engine="kcl", target="shop:Orders").settings.state == "dynamodb:orders-streamheal"
