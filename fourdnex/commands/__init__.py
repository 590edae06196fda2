"""The commands of `fourdnex`, in the order of its help.

A command is a function; its parameters, or the fields of the configuration class that it names, are its options. What
a command does is imported when it runs.
"""

from fourdnex.commands import data, model, scenes, tools
from fourdnex.commands.declaration import Command

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        data.worlds,
        data.videos,
        data.annotate,
        data.curate,
        data.encode,
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
        tools.plan,
        tools.doctor,
    )
}

__all__ = ["COMMANDS", "Command"]
