"""Scenarios: the key directory and the files in it."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

from issuer.fixes import Kind, quoted
from issuer.signing.pem_directory import CHECKPOINT
from support.components import not_possible, require_root
from support.fix_scenarios.stage import (
    NOBODY,
    Stage,
    as_an_ordinary_user,
    scenario,
)


@scenario(Kind.KEYS_LINK)
def _(stage: Stage) -> None:
    stage.deployment.keys.rename(stage.deployment.folder / "else where")
    stage.deployment.keys.symlink_to(stage.deployment.folder / "else where")


@scenario(Kind.KEYS_NO_DIRECTORY)
def _(stage: Stage) -> None:
    stage.deployment.keys.rename(stage.deployment.folder / "safe")
    stage.deployment.keys.write_text("")
    stage.then = lambda: shutil.move(stage.deployment.folder / "safe", stage.deployment.keys)


@scenario(Kind.KEYS_CLOSED)
def _(stage: Stage) -> None:
    stage.deployment.keys.chmod(0o2500)
    as_an_ordinary_user(stage, Path("keys"))


@scenario(Kind.KEYS_OWNER)
def _(stage: Stage) -> None:
    require_root()
    os.chown(stage.key(), NOBODY, NOBODY)


def fix_all(stage: Stage) -> None:
    for finding in stage.deployment.found():
        stage.deployment.apply(finding.fix.line)


@scenario(Kind.KEYS_EXPOSED)
def _(stage: Stage) -> None:
    stage.deployment.keys.chmod(0o3770)
    stage.key().chmod(0o644)
    stage.then = partial(fix_all, stage)


@scenario(Kind.KEYS_READ_ONLY)
def _(stage: Stage) -> None:
    require_root()
    keys = str(stage.deployment.keys)
    copy = shutil.copytree(keys, stage.deployment.folder / "copy")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=700", "none", keys], capture_output=True, check=False
    )
    if mounted.returncode:
        not_possible("nothing can be mounted here")
    stage.request.addfinalizer(lambda: subprocess.run(["umount", keys], check=True))
    for path in copy.iterdir():
        shutil.copy2(path, keys)
    shutil.rmtree(copy)
    subprocess.run(["mount", "-o", "remount,ro", keys], check=True)


@scenario(Kind.KEY_NO_FILE)
def _(stage: Stage) -> None:
    path = stage.key()
    stage.then = lambda: shutil.move(path.with_name("saved"), path)
    path.rename(path.with_name("saved"))
    os.mkfifo(path, 0o600)


@scenario(Kind.KEY_LINK)
def _(stage: Stage) -> None:
    path = stage.key()
    path.rename(stage.deployment.folder / "a key.pem")
    path.symlink_to(stage.deployment.folder / "a key.pem")


@scenario(Kind.KEY_MISSING)
def _(stage: Stage) -> None:
    (stage.deployment.folder / "back up").mkdir()
    shutil.move(stage.key(), stage.deployment.folder / "back up")
    stage.fills["BACKUP"] = quoted("back up")


@scenario(Kind.KEY_SWAPPED)
def _(stage: Stage) -> None:
    shutil.copytree(stage.deployment.keys, stage.deployment.folder / "backup")
    one, other = sorted(stage.deployment.keys.glob("*.pem"))
    one.write_bytes(other.read_bytes())
    stage.fills["BACKUP"] = "backup"


@scenario(Kind.KEY_STRAY)
def _(stage: Stage) -> None:
    path = stage.deployment.keys / "-old $(key)\n'.pem"
    path.write_text("")
    path.chmod(0o600)


@scenario(Kind.KEY_STRAY_ELSEWHERE)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.deployment.set(ISSUER_KEYS="database")
    stage.deployment.make()
    stage.deployment.change("INSERT INTO private_keys SELECT 'stray', pem, 1 FROM private_keys LIMIT 1")


@scenario(Kind.CHECKPOINT_DAMAGED)
def _(stage: Stage) -> None:
    (stage.deployment.keys / CHECKPOINT).write_text("{}")
