"""The Dagster graph of the project: an asset is a few lines around a call of the library."""

from fourdnex.telemetry import disable_telemetry

disable_telemetry()
