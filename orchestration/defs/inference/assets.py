"""From a collection of images to dynamic point clouds."""

import hashlib
import json

import dagster as dg

from fourdnex import tracking
from orchestration import display
from orchestration.history import latest_of_partition, version_of
from orchestration.inbox import captions_of, contents_digest, images_of
from orchestration.partitions import collections
from orchestration.project import Project
from orchestration.training_run import code_version, depth_network_option

GROUP = "inference"
OWNERS = ["team:operations"]
MADE_OF = "point_clouds_version"
"""In the metadata of novel views: the version of the point clouds that they show."""


@dg.asset(
    partitions_def=collections,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"jpeg"},
    code_version="1",
    description="A folder of images in `workspace/inbox`, as it is now, with their captions if there are any: "
    "`captions.csv`, or `NAME.txt` beside `NAME.jpg`.",
)
def image_collections(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    from fourdnex.io.files import sha256_file
    from fourdnex.io.walk import unreadable_reason

    folder = project.workspace.inbox / context.partition_key
    images = images_of(folder)
    if not images:
        raise dg.Failure(f"{folder}: expected images, got none")
    captions = captions_of(folder)
    contents = [(path.name, unreadable_reason(path) or sha256_file(path)) for path in [*images, *captions]]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hashlib.sha256(json.dumps(contents).encode()).hexdigest()),
        metadata={
            "folder": dg.MetadataValue.path(str(folder)),
            "images": len(images),
            "captions": [path.name for path in captions],
            "contents": display.contact_sheet(images[:24]),
        },
    )


class SceneSettings(dg.Config):
    """What scenes are like; runs that nobody configures take the defaults, and make again what was made otherwise."""

    size: str = "image"
    """The images' own ratios; "base", or "480x720", cuts them."""
    resolution: str = "auto"
    """Of the scenes: "model", "photo" or pixels of the longer side."""
    camera: str | None = None
    """Way of the camera, such as "orbit-left", in place of what captions say of it."""
    camera_pace: str = "slowly"
    """slowly, steadily or quickly."""


@dg.asset(
    partitions_def=collections,
    deps=["image_collections", "champion"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "ply"},
    code_version=code_version("2", depth_network_option()),
    pool="gpu",
    description="For each image a scene, a PLY a frame, a Rerun recording and a preview, made by the champion; "
    "a bad image is set aside with its reason.",
)
def point_clouds(context: dg.AssetExecutionContext, config: SceneSettings, project: Project) -> dg.MaterializeResult:
    from fourdnex.evaluation import collection_consistency
    from fourdnex.generation.collections import generate_collection, scenes_digest

    champion = tracking.resolve(tracking.CHAMPION, workspace=project.workspace)
    if champion is None:
        raise dg.Failure("registry: expected a version with the alias 'champion', got none: promote one first")
    name = context.partition_key
    inbox_digest = contents_digest(project.workspace.inbox / name)  # before: an image may come meanwhile
    folder = project.workspace.scenes / name
    known = champion.identity | project.identity(
        context.run.run_id,
        **{key: value for key, value in champion.identity.items() if key not in ("git_commit", "dagster_run")},
        model_version=champion.version,
    )
    report = generate_collection(
        project.workspace.inbox / name,
        folder,
        model=project.model,
        adapter=champion.adapter_dir,
        depth_network=project.depth_network_for(champion.adapter_dir),
        size=config.size,
        resolution=config.resolution,
        camera=config.camera,
        camera_pace=config.camera_pace,
        provenance=known,
    )
    if report.done + report.cached == 0:
        raise dg.Failure(
            f"{name}: no scene could be made of {report.requested} images",
            metadata={"reasons": display.reasons(report.failed)},
        )
    previews = sorted(folder.glob("[!.]*/preview.png"))
    sheet = display.sheet(previews[:12], columns=2, tile=640)
    if sheet is not None and champion.run_id and tracking.find_run(champion.run_id, workspace=project.workspace):
        tracking.add_image(champion.run_id, sheet, f"scenes/{name}.png", workspace=project.workspace)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(scenes_digest(folder)),
        metadata={
            "folder": dg.MetadataValue.path(str(folder)),
            "requested": report.requested,
            "done": report.done,
            "found finished": report.cached,
            "set aside": len(report.failed),
            "in folders within it, left out": report.left_out,
            "captions without an image": list(report.unmatched),
            "seconds": round(report.seconds, 1),
            "seconds_a_scene": round(report.seconds / max(1, report.done), 2),
            "previews": display.contact_sheet(previews[:12], columns=2, tile=480),
            "open": display.viewer_links(
                project.viewer_url, name, {path.parent.name: path.parent for path in previews[:100]}
            ),
            "consistency and motion": display.table(collection_consistency(folder)[:100]),
            "reasons": display.reasons(report.failed),
            "champion_version": champion.version,
            "inbox_digest": inbox_digest,
            **display.identity(known),
        },
    )


@dg.asset(
    partitions_def=collections,
    deps=["point_clouds"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mp4"},
    code_version="1",
    description="A video of every scene from a sway around its middle, and the mask of the pixels that no frame shows.",
)
def novel_views(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    from fourdnex.rendering.render_collection import render_collection

    name = context.partition_key
    made_of = latest_of_partition(context.instance, "point_clouds", name)  # before: others may be made meanwhile
    scenes, folder = project.workspace.scenes / name, project.workspace.novel_views / name
    report = render_collection(scenes, folder)
    if report.done + report.cached == 0:
        raise dg.Failure(
            f"{name}: none of {report.requested} scenes could be rendered",
            metadata={"reasons": display.reasons(report.failed)},
        )
    images = sorted(folder.glob("[!.]*/*.png"))
    shown = {path.parent.name: scenes / path.parent.name for path in images[:100]}
    return dg.MaterializeResult(
        metadata={
            "folder": dg.MetadataValue.path(str(folder)),
            "requested": report.requested,
            "done": report.done,
            "found finished": report.cached,
            "set aside": len(report.failed),
            "inpainted_share": round(report.inpainted_share, 4),
            "seconds": round(report.seconds, 1),
            "views": display.contact_sheet(images[:12], columns=2, tile=480),
            "open": display.viewer_links(project.viewer_url, name, shown),
            "reasons": display.reasons(report.failed),
            MADE_OF: version_of(made_of) if made_of is not None else "unknown",
        }
    )
