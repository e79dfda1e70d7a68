"""Fills the shop with products, customers and orders."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from example_project.shop.models import Customer, Order, OrderLine, Product

MATERIALS = ("oak", "steel", "linen", "glass", "cork", "wool", "copper", "clay", "paper", "walnut")
THINGS = ("lamp", "chair", "table", "vase", "shelf", "rug", "clock", "bowl", "mirror", "basket")
FIRST_DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Command(BaseCommand):
    """`manage.py seed`: the same content each time, and nothing where the shop has content already."""

    help = "Fill an empty shop with products, customers and orders."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--orders", type=int, default=500, help="how many orders to place (default: 500)")
        parser.add_argument("--migrate", action="store_true", help="make the tables first")

    def handle(self, *args: Any, orders: int, migrate: bool, verbosity: int, **options: Any) -> None:
        if migrate:
            call_command("migrate", verbosity=verbosity)
        if Product.objects.exists():
            message = "The shop has products already; nothing was added."
        else:
            with transaction.atomic():
                _fill(orders)
            message = f"The shop has {Product.objects.count()} products and {orders} orders now."
        if verbosity:
            self.stdout.write(message)


def _fill(count: int) -> None:
    chance = random.Random(1)
    products = Product.objects.bulk_create(
        Product(
            name=f"{material} {thing}".capitalize(),
            price=Decimal(chance.randint(500, 40_000)) / 100,
            stock=chance.randint(0, 60),
        )
        for material in MATERIALS
        for thing in THINGS
    )
    customers = Customer.objects.bulk_create(
        Customer(name=f"Customer {number}", email=f"customer{number}@example.com") for number in range(1, 101)
    )
    orders = Order.objects.bulk_create(
        Order(customer=chance.choice(customers), placed_at=FIRST_DAY + dt.timedelta(minutes=97 * number))
        for number in range(count)
    )
    OrderLine.objects.bulk_create(
        OrderLine(order=order, product=product, quantity=chance.randint(1, 4), price=product.price)
        for order in orders
        for product in chance.sample(products, chance.randint(1, 5))
    )
