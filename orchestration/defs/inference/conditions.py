"""When a collection is generated again without anyone asking."""

import dagster as dg

_Condition = dg.AutomationCondition

new_champion = (
    _Condition.any_deps_match(_Condition.data_version_changed())
    .allow(dg.AssetSelection.assets("champion"))
    .since_last_handled()
    & ~_Condition.missing()
    & ~_Condition.in_progress()
    & ~_Condition.any_deps_missing()
    & ~_Condition.any_deps_in_progress()
    & _Condition.all_deps_blocking_checks_passed()
).with_label("new_champion")
"""Another version became champion since the collection was last generated, and no check speaks against it.

A collection that was never generated is left to the sensor of the inbox, which waits for the first champion.
"""
