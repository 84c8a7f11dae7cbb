"""ISSUER_LOGO: which files are images that pages can show."""

import os
from pathlib import Path

import pytest

from issuer.settings.logo import LOGO_MOST_BYTES, load_logo
from issuer.settings.settings import BadSettings, Settings

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0 rest", "image/jpeg"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a comment -->\n<svg\n>", "image/svg+xml"),
        (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd"><svg>', "image/svg+xml"),
    ],
)
def test_the_kind_of_an_image_is_read_from_its_content(
    tmp_path: Path, content: bytes, media_type: str
) -> None:
    path = tmp_path / "logo.any"
    path.write_bytes(content)
    logo = load_logo(path)
    assert (logo.content, logo.media_type) == (content, media_type)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"<html><svg>", b"<script>", b"\x00\x00\x01\x00", b"<svgx>"]
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="it is not an SVG, PNG, JPEG or WebP image"):
        load_logo(path)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(PNG + bytes(LOGO_MOST_BYTES - len(PNG)))
    assert load_logo(path).media_type == "image/png"
    path.write_bytes(PNG + bytes(LOGO_MOST_BYTES - len(PNG) + 1))
    with pytest.raises(ValueError, match="larger than 256 KiB"):
        load_logo(path)


def test_a_file_that_cannot_be_read_is_refused_before_anything_starts(
    tmp_path: Path, settings: Settings
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("nowhere", "No such file or directory"), ("pipe", "it is not a regular file")):
        path = tmp_path / name
        with pytest.raises(BadSettings) as caught:
            settings.model_copy(update={"logo": path}).require_usable()
        assert str(caught.value) == f"ISSUER_LOGO: cannot use {path}: {why}"
        assert caught.value.fix
