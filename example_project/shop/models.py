"""Products, customers and their orders."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import F, Sum


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name


class Customer(models.Model):
    """Somebody who buys."""

    name = models.CharField(max_length=80)
    email = models.EmailField(unique=True)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What a customer bought at one time."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="orders")
    placed_at = models.DateTimeField(db_index=True)
    payment = models.CharField(max_length=40, blank=True)

    def __str__(self) -> str:
        return f"Order {self.pk}"

    def total(self) -> Decimal:
        """Return the price of all lines, computed by the database."""
        result: Decimal | None = self.lines.aggregate(total=Sum(F("quantity") * F("price")))["total"]
        return result or Decimal(0)


class OrderLine(models.Model):
    """A product in an order, at the price of that day."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product_id}"
