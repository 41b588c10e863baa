"""Which positions of which axes can only be removed together, and how they are removed and proved."""

from graphrewrite.dims.groups import ChannelGroup, Groups, Member, group_units, groups
from graphrewrite.dims.reference import reference
from graphrewrite.dims.shrink import Shrunk, shrink
from graphrewrite.dims.sweep import Analysis, analyse

__all__ = [
    "Analysis",
    "ChannelGroup",
    "Groups",
    "Member",
    "Shrunk",
    "analyse",
    "group_units",
    "groups",
    "reference",
    "shrink",
]
