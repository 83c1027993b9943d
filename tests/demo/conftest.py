"""The fixtures of the data: settings and a small demo world."""

from tests.data.conftest import clips, footage, footage_settings, ingest_settings, params, team  # noqa: F401
