"""What a user of the library hears in a fresh process: nothing of what diffusers asks of transformers."""

import logging
import subprocess
import sys

LOADS = "import fourdnex; from diffusers import WanImageToVideoPipeline; from transformers import CLIPImageProcessor"


def test_no_note_of_torchvision_at_a_call_of_the_library():
    run = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    assert "torchvision" not in run.stdout + run.stderr


def test_other_warnings_of_transformers_are_heard(caplog):
    import fourdnex

    assert fourdnex.__version__
    logger = logging.getLogger("transformers.utils.import_utils")
    with caplog.at_level(logging.WARNING, logger=logger.name):
        logger.propagate, kept = True, logger.propagate
        try:
            logger.warning("`CLIPImageProcessor` requires torchvision (not installed)")
            logger.warning("something else")
        finally:
            logger.propagate = kept
    assert [record.getMessage() for record in caplog.records] == ["something else"]
