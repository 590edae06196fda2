"""The commands of `fourdnex`, in the order in which its help lists them.

A command is a function. Its parameters, and the fields of the configuration classes that it names, are its options.
Commands import what they need when they run, so that `--help` and `--version` respond at once.
"""

from fourdnex.commands import data, dataset, ingest, model, registry, scenes, tools
from fourdnex.commands.declaration import Command, Result

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        data.worlds,
        data.videos,
        ingest.ingest,
        data.annotate,
        data.curate,
        data.encode,
        dataset.check,
        dataset.info,
        dataset.card,
        dataset.merge,
        dataset.add,
        dataset.migrate,
        model.train,
        model.evaluate,
        model.ablate,
        scenes.generate,
        scenes.view,
        scenes.render,
        scenes.export,
        model.pretrain,
        model.pretrain_depth,
        scenes.lineage,
        model.import_adapter,
        registry.promote,
        registry.rollback,
        tools.plan,
        tools.doctor,
        tools.completion,
    )
}

GROUPS = {"dataset": "Check, describe, combine and migrate data sets"}
"""Group of commands -> its summary."""

__all__ = ["COMMANDS", "GROUPS", "Command", "Result"]
