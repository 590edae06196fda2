"""The public names of the model are found where users look for them."""

import fourdnex.model


def test_every_public_name_is_there():
    for name in fourdnex.model.__all__:
        assert getattr(fourdnex.model, name).__name__ == name
