"""Warnings in a fresh process: no false alarm of transformers about torchvision."""

import logging
import subprocess
import sys

IMPORTS = "import fourdnex; from diffusers import WanImageToVideoPipeline; from transformers import CLIPImageProcessor"


def test_importing_the_library_does_not_warn_about_torchvision():
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert "torchvision" not in run.stdout + run.stderr


def test_other_warnings_of_transformers_are_shown(caplog):
    import fourdnex

    assert fourdnex.__version__
    logger = logging.getLogger("transformers.utils.import_utils")
    with caplog.at_level(logging.WARNING, logger=logger.name):
        logger.propagate, former = True, logger.propagate
        try:
            logger.warning("`CLIPImageProcessor` requires torchvision (not installed)")
            logger.warning("something else")
        finally:
            logger.propagate = former
    assert [record.getMessage() for record in caplog.records] == ["something else"]
