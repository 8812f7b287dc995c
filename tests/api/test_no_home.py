"""A process under a user id without HOME and without an entry in passwd, as containers have it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

USER = "54321"

PRETEND = """
import os, pwd

def unknown(uid):
    raise KeyError(uid)

pwd.getpwuid = unknown
"""

SCRIPT = """
import os, pickle, pwd, sys, warnings

try:
    pwd.getpwuid(os.getuid())
except KeyError:
    pass
else:
    sys.exit("this user has an entry in passwd")

import numpy as np
import torch
import prunus
from prunus.cache import CacheWarning
from prunus.errors import PrunusError, SavedModelError

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval()
    x = torch.ones(3, 64)
    model = prunus.compile(module, (x,), threads=1)
    assert torch.allclose(model(x), module(x), atol=1e-5)
    assert model.recompile(sparse=False)(x).shape == (3, 64)
    try:
        pickle.dumps(model)
    except SavedModelError as error:
        assert "cannot be pickled" in str(error)
    else:
        sys.exit("a model that cannot be kept was pickled")
    model.save_pretrained(sys.argv[1])
    assert np.array_equal(prunus.load(sys.argv[1], threads=1)(x.numpy()), model(x.numpy()))
    assert pickle.loads(pickle.dumps(model)) is model
    try:
        prunus.from_pretrained("~/nothing")
    except PrunusError as error:
        assert "~/nothing" in str(error)

ours = [str(each.message) for each in seen if issubclass(each.category, CacheWarning)]
assert len(ours) == 1, ours
print(ours[0])
print(sorted(os.listdir(".")))
"""


def environment() -> dict[str, str]:
    kept = ("PATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_all_works_without_a_home_after_one_warning(tmp_path: Path) -> None:
    command, script = as_unknown_user(), SCRIPT
    if subprocess.run([*command, "-c", ""], env=environment(), capture_output=True).returncode == 0:
        os.chown(tmp_path, int(USER), int(USER))
    else:  # this process may not become another user
        command, script = [sys.executable], PRETEND + SCRIPT
    ran = subprocess.run(
        [*command, "-c", script, "saved"],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said, files = ran.stdout.splitlines()
    assert "no home folder" in said and "PRUNUS_CACHE_DIR" in said
    assert files == "['saved']"


def as_unknown_user() -> list[str]:
    """Python as another user, who may read what is for root alone: Python may lie there."""
    setpriv = shutil.which("setpriv") or "false"
    becoming = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    reading = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *becoming, *reading, sys.executable]
