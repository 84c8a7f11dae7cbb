"""Settings: each invalid one is named in one line, without its value."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from issuer.settings.loading import NAMES, load_settings, setting_warnings
from issuer.settings.settings import BadSettings, Settings
from issuer.wiring import build


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45", 45), ("45s", 45), ("10m", 600), ("24h", 86400), ("30d", 2592000), (" 5m ", 300)],
)
def test_durations_are_seconds_or_have_a_unit(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: int
) -> None:
    monkeypatch.setenv("ISSUER_ACCESS_TOKEN_LIFETIME", text)
    assert load_settings().access_token_lifetime == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ISSUER_ACCESS_TOKEN_LIFETIME", "0"),
        ("ISSUER_ACCESS_TOKEN_LIFETIME", "0.5"),
        ("ISSUER_ACCESS_TOKEN_LIFETIME", "-1"),
        ("ISSUER_ACCESS_TOKEN_LIFETIME", "1w"),
        ("ISSUER_REFRESH_TOKEN_LIFETIME", "999999d"),
        ("ISSUER_ROTATION_PERIOD", "9999999999d"),
        ("ISSUER_STANDBY_KEYS", "0"),
        ("ISSUER_URL", "issuer.example"),
        ("ISSUER_URL", "https://issuer.example/"),
        ("ISSUER_URL", "https://issuer.example?a=b"),
        ("ISSUER_URL", "http://["),
        ("ISSUER_URL", "http://127.0.0.1:abc"),
        ("ISSUER_URL", "http://127.0.0.1:99999"),
        ("ISSUER_URL", "https://user:secret@issuer.example"),
        ("ISSUER_URL", "https://issuer.example?"),
        ("ISSUER_URL", "HTTPS://issuer.example"),
        ("ISSUER_AUDIENCE", "notaurl"),
        ("ISSUER_AUDIENCE", "https://api.example#part"),
        ("ISSUER_AUDIENCE", "https://api.example?a=b"),
        ("ISSUER_AUDIENCE", "https://user@api.example"),
        ("ISSUER_AUDIENCE", "https://API.example"),
        ("ISSUER_AUDIENCE", "https://api.example:443"),
        ("ISSUER_AUDIENCE", "https://a pi.example"),
        ("ISSUER_URL", "https://is suer.example"),
        ("ISSUER_URL", "https://Issuer.example"),
        ("ISSUER_URL", "https://issuer.example:443"),
        ("ISSUER_URL", "http://issuer.example:080"),
        ("ISSUER_URL", "https://issuer.example:"),
        ("ISSUER_URL", "https://issuer.example."),
        ("ISSUER_URL", "https://issuer..example"),
        ("ISSUER_URL", "https://.issuer.example"),
        ("ISSUER_URL", "https://-issuer.example"),
        ("ISSUER_URL", "https://b\u00fccher.example"),
        ("ISSUER_URL", "https://issuer.example/a/../b"),
        ("ISSUER_URL", "https://issuer.example//a"),
        ("ISSUER_URL", "https://issuer.example/a b"),
        ("ISSUER_URL", "https://issuer.example/b\u00fccher"),
        ("ISSUER_URL", "https://issuer.example/%zz"),
        ("ISSUER_URL", "https://issuer.example\\a"),
        ("ISSUER_URL", "https://1.2.3"),
        ("ISSUER_URL", "https://0177.0.0.1"),
        ("ISSUER_URL", "https://[::ffff:1.2.3.4%eth0]"),
        ("ISSUER_URL", "https://[0:0:0:0:0:0:0:1]"),
        ("ISSUER_URL", "ftp://issuer.example"),
        ("ISSUER_URL", "https:issuer.example"),
        ("ISSUER_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("ISSUER_TRUSTED_PROXIES", "proxy.example"),
        ("ISSUER_PROXY", "proxy.example:3128"),
        ("ISSUER_PROXY", "socks5://proxy.example:1080"),
        ("ISSUER_SMTP_URL", "mail.example:25"),
        ("ISSUER_SMTP_URL", "smtp://me:hidden@mail.example?starttls=off"),
        ("ISSUER_MAIL_FROM", "nobody"),
        ("ISSUER_MAIL_FROM", "Accounts <accounts@issuer.example>"),
        ("ISSUER_KEYS", "~nobody-here/keys"),
        ("ISSUER_KEYS_PASSPHRASE_FILE", "~nobody-here/passphrase"),
        ("ISSUER_KEYS_PASSPHRASE", " sixteen silent penguins"),
        ("ISSUER_KEYS_PASSPHRASE", '"sixteen silent penguins"'),
        ("ISSUER_AUDIENCE", "two words"),
        ("ISSUER_AUDIENCE", "a\nb"),
        ("ISSUER_CORS_ORIGINS", "*"),
        ("ISSUER_CORS_ORIGINS", "https://app.example/"),
        ("ISSUER_ALGORITHM", "HS256"),
        ("ISSUER_REGISTRATION", "perhaps"),
    ],
)
def test_a_wrong_setting_is_reported_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=rf"^{name}: ") as refusal:
        load_settings()
    assert "\n" not in str(refusal.value)


def test_contradicting_timings_are_refused_with_the_arithmetic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ISSUER_PUBLISH_LEAD", "1m")
    with pytest.raises(BadSettings, match=r"at least ISSUER_JWKS_MAX_AGE 5m \+ .* = 6m"):
        build(load_settings())


@pytest.mark.parametrize(
    "url", ["https://issuer.example", "http://10.0.0.1:8000", "http://localhost.example"]
)
def test_an_issuer_that_others_can_reach_needs_a_passphrase(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ISSUER_URL", url)
    with pytest.raises(BadSettings, match="ISSUER_KEYS_PASSPHRASE"):
        load_settings().passphrase()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
def test_an_issuer_on_loopback_does_without(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ISSUER_URL", url)
    assert load_settings().passphrase() is None


def test_a_passphrase_may_come_from_a_file_and_loses_its_line_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "passphrase"
    file.write_text("with spaces \n")
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE_FILE", str(file))
    assert load_settings().passphrase() == "with spaces "


def test_an_empty_passphrase_is_none_and_a_missing_or_doubled_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "")
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE_FILE", "")
    assert load_settings().passphrase() is None
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE_FILE", str(tmp_path / "none"))
    with pytest.raises(BadSettings, match="there is no file"):
        load_settings().passphrase()
    (tmp_path / "none").write_text("\n")
    with pytest.raises(BadSettings, match="empty"):
        load_settings().passphrase()
    (tmp_path / "none").write_text("one")
    assert load_settings().passphrase() == "one"
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "one")
    assert load_settings().passphrase() == "one"
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "another")
    with pytest.raises(BadSettings, match="not both"):
        load_settings().passphrase()


@pytest.mark.parametrize("passphrase", ["x" * 1024, "\udcff"])
def test_a_passphrase_that_no_key_can_be_encrypted_under_is_refused(passphrase: str) -> None:
    with pytest.raises(BadSettings, match="1023 bytes"):
        Settings(keys_passphrase=SecretStr(passphrase)).passphrase()


def test_the_names_of_key_stores_are_no_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Database", "PKCS11"):
        monkeypatch.setenv("ISSUER_KEYS", name)
        assert load_settings().keys == name.lower()
    monkeypatch.setenv("ISSUER_KEYS", "~/keys")
    assert load_settings().keys == str(Path.home() / "keys")


TOKEN = {
    "ISSUER_PKCS11_MODULE": "/usr/lib/module.so",
    "ISSUER_PKCS11_TOKEN": "issuer",
    "ISSUER_KEYS_PASSPHRASE": "a secret",
}


@pytest.mark.parametrize("missing", TOKEN)
@pytest.mark.parametrize("how", ["unset", "empty"])
def test_keys_in_a_token_need_all_of_module_label_and_pin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, how: str
) -> None:
    monkeypatch.setenv("ISSUER_KEYS", "pkcs11")
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    assert load_settings().hardware_token() == (Path("/usr/lib/module.so"), "issuer")
    if how == "empty":
        monkeypatch.setenv(missing, "")
    else:
        monkeypatch.delenv(missing)
    with pytest.raises(BadSettings) as refusal:
        build(load_settings())
    assert [name for name in TOKEN if name in str(refusal.value)] == [missing]
    assert "a secret" not in str(refusal.value)
    assert not any(tmp_path.iterdir())


def test_a_misspelt_setting_is_noticed_with_the_one_it_resembles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISSUER_ACCES_TOKEN_LIFETIME", "1m")
    monkeypatch.setenv("ISSUER_URL", "http://127.0.0.1:8000")
    (tmp_path / ".env").write_text("ISSUER_QQQ=1\nOTHER=2\n")
    (tmp_path / ".env").chmod(0o600)
    assert [warning.message for warning in setting_warnings()] == [
        "ISSUER_QQQ is no setting (line 1 of .env)",
        "ISSUER_ACCES_TOKEN_LIFETIME is no setting; did you mean ISSUER_ACCESS_TOKEN_LIFETIME?",
    ]


@pytest.mark.processes
def test_the_fix_of_a_misspelt_setting_works_with_any_characters_in_its_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ISSUER_U/'RL=http://127.0.0.1:8001\n")
    (tmp_path / ".env").chmod(0o600)
    (warning,) = setting_warnings()
    subprocess.run(["bash", "-c", warning.fix.line], check=True)
    assert load_settings().url == "http://127.0.0.1:8001"
    assert list(setting_warnings()) == []


def test_a_later_line_without_a_value_overrides_no_other(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ISSUER_AUDIENCE=https://a.example\nISSUER_AUDIENCE=\"''\"\n")
    (tmp_path / ".env").chmod(0o600)
    assert load_settings().audience == "https://a.example"
    assert list(setting_warnings()) == []


def test_a_wrong_value_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "a secret")
    monkeypatch.setenv("ISSUER_DATABASE_URL", "postgresql://user:a secret@127.0.0.1:1/none")
    monkeypatch.setenv("ISSUER_STANDBY_KEYS", "a secret")
    with pytest.raises(BadSettings) as refusal:
        load_settings()
    assert "a secret" not in str(refusal.value)
    monkeypatch.delenv("ISSUER_STANDBY_KEYS")
    assert "a secret" not in repr(load_settings())


def test_a_file_of_settings_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"ISSUER_URL=\xff\xfe")
    with pytest.raises(BadSettings, match=r"\.env"):
        load_settings()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_value_that_begins_with_a_byte_order_mark_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "\ufeffvalue")
    with pytest.raises(BadSettings, match=f"^{name}: begins with a byte order mark"):
        load_settings()


@pytest.mark.parametrize("token", ["é" * 20, "a token with a tab\there", "sixteen characters\u200b"])
def test_a_metrics_token_that_no_header_can_carry_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER_METRICS_TOKEN", token)
    with pytest.raises(BadSettings, match="ISSUER_METRICS_TOKEN: must be printable ASCII"):
        load_settings()


def test_all_errors_are_reported_at_once_without_their_consequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "ISSUER_ALGORITHM": "foo",
        "ISSUER_STANDBY_KEYS": "99",
        "ISSUER_DATABASE_URL": "mysql://x",
        "ISSUER_PUBLISH_LEAD": "1s",
        "ISSUER_CA_FILE": "/nonexistent",
        "ISSUER_KEYS_PASSPHRASE_FILE": "/nonexistent",
        "ISSUER_REGISTRATION": "maybe",
    }.items():
        monkeypatch.setenv(name, value)
    message = refusal()
    for name in os.environ:
        assert not name.startswith("ISSUER_") or name in message
    assert "Input should" not in message
    monkeypatch.setenv("ISSUER_PUBLISH_LEAD", "soon")
    message = refusal()
    assert message.count("ISSUER_PUBLISH_LEAD") == 1
    assert "ISSUER_ROTATION_PERIOD" not in message


def test_unreadable_lines_are_reported_together_with_invalid_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("ISSUER_URL https://issuer.example\nISSUER_ALGORITHM=foo\n")
    Path(".env").chmod(0o600)
    message = refusal()
    assert "line 1 of .env" in message
    assert "ISSUER_ALGORITHM: must be one of" in message


def test_contradictions_are_reported_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSUER_PUBLISH_LEAD", "1s")
    monkeypatch.setenv("ISSUER_CA_FILE", "/nonexistent")
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE_FILE", "/nowhere")
    with pytest.raises(BadSettings) as refused:
        load_settings().require_usable()
    assert all(each in str(refused.value) for each in ("LEAD is 1s", "/nonexistent", "/nowhere"))


PATHS = {
    "ISSUER_KEYS": "{}",
    "ISSUER_KEYS_PASSPHRASE_FILE": "{}",
    "ISSUER_CA_FILE": "{}",
    "ISSUER_PKCS11_MODULE": "{}",
    "ISSUER_DATABASE_URL": "sqlite:///{}",
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", ["x" * 300, "abc/" * 1500, "loop", "loop/below", "file/below"])
def test_a_path_that_leads_nowhere_is_one_line_with_the_path(
    name: str, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    monkeypatch.setenv(name, PATHS[name].format(path))
    message = refusal()
    assert message.startswith(name)
    assert path[:100] in message
    assert "use another one" in message
    assert len(message) < 300
    assert "Errno" not in message


def refusal() -> str:
    with pytest.raises(BadSettings) as refused:
        load_settings()
    return str(refused.value)
