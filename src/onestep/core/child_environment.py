"""The variables that a child process gets: those that its work is known to need, never the signing key's.

A stage runs other people's code on other people's files. What it cannot see it cannot leak.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

KEY_TEXT = "ONESTEP_SIGNING_KEY"
KEY_FILE = "ONESTEP_SIGNING_KEY_FILE"
FLOW_RUN = "PREFECT__FLOW_RUN_ID"
SIGNING = frozenset({KEY_TEXT, KEY_FILE})

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
        *("LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "HOSTNAME", "VIRTUAL_ENV", "DO_NOT_TRACK", FLOW_RUN),
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY"),
        *("STORAGE_EMULATOR_HOST", "BOTO_CONFIG", "GCLOUD_PROJECT"),
    }
)
_BEGINNINGS = (
    *("LC_", "XDG_", "LD_", "DYLD_", "PYTHON", "CONDA_", "SSL_CERT_", "GIT_CONFIG", "GIT_SSL_", "KRB5", "SLURM_"),
    *("OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_", "NUMEXPR_", "VECLIB_", "MALLOC_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "CUBLAS_", "CUDNN_", "HIP_", "ROCR_", "ROCM_", "HSA_", "GLOO_", "UCX_"),
    *("TORCH", "PYTORCH_", "TRITON_", "ACCELERATE_", "HF_", "HUGGINGFACE_", "HUGGING_FACE_", "TRANSFORMERS_"),
    *("DIFFUSERS_", "TOKENIZERS_", "AWS_", "AZURE_", "GOOGLE_", "GCS", "CLOUDSDK_", "S3_", "OSS_", "FSSPEC_"),
    *("DVC_", "DVCLIVE_", "GX_", "IMAGEIO_", "ONESTEP_", "PYTEST_"),
)


def may_see(name: str) -> bool:
    """Whether every child may have this variable."""
    if name in SIGNING:
        return False
    return name in _NAMES or name.upper().endswith("_PROXY") or name.startswith(_BEGINNINGS)


def for_child(named: Iterable[str] = (), source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: what every child may have, and the variables that it names itself.

    Raises `ValueError` where it names a variable of the signing key, or something that is no variable's name.
    """
    source = os.environ if source is None else source
    wanted = set(named)
    for name in sorted(wanted, key=str):
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is not the name of a variable: write a list like [MY_VARIABLE]")
        if name in SIGNING:
            raise ValueError(f"{name} is not given to any stage: the signing key is for record, promote and rollback")
    return {name: value for name, value in source.items() if name in wanted or may_see(name)}


def for_stage(code: Path, named: Iterable[str] = (), python: Path | None = None) -> dict[str, str]:
    """The environment of a stage's command: that of a child, and it imports the package in `code`.

    python: the interpreter whose tools the command finds first, null = this one. Raises what `for_child` raises.
    """
    tools = (python or Path(sys.executable)).parent
    path = os.pathsep.join((str(tools), os.environ.get("PATH", "")))
    return {**for_child(named), "PATH": path, "PYTHONPATH": str(code)}


def drop_signing_key(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take the signing key out of this process's environment, so that nothing that it runs can see it."""
    for name in SIGNING:
        environment.pop(name, None)
