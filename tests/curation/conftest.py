"""Hypothesis without deadlines: how long a case takes on a busy machine says nothing about it."""

from hypothesis import settings

settings.register_profile("curation", deadline=None)
settings.load_profile("curation")
