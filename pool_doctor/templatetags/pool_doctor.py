"""Filters of the panel's template: numbers in the words of the report."""

from __future__ import annotations

from django import template

from pool_doctor.report import words

register = template.Library()

register.filter("duration", words.duration)
register.filter("share", words.share)
