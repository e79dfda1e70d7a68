"""Settings of the shop without pool_doctor, for the engines that it is compared with."""

from example_project.shop.settings import *  # noqa: F403
from example_project.shop.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [app for app in _APPS if app != "pool_doctor"]
