"""Routes of the shop."""

from __future__ import annotations

from django.apps import apps
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import URLPattern, URLResolver, path

from example_project.shop import views

handler400 = views.bad_request

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    path("orders/<int:pk>/", views.order_detail, name="order"),
    path("quick/", views.quick),
    path("api-call/", views.api_call),
    path("atomic/", views.atomic),
    path("sql/", views.slow_sql),
    path("stream/", views.stream),
    path("async/", views.asynchronous),
    path("on-commit/", views.on_commit),
    path("leak/", views.leak),
    path("nodb/", views.without_database),
    # Nothing unless DEBUG is on.
    *staticfiles_urlpatterns(),
]

if apps.is_installed("debug_toolbar"):
    from debug_toolbar.toolbar import debug_toolbar_urls

    urlpatterns += debug_toolbar_urls()
