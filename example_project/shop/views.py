"""Two pages of a shop, and views that each hold a connection in one known way.

Where a view takes `?ms=`, that is the time in milliseconds that its slow part takes.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import TYPE_CHECKING

from django.core.exceptions import BadRequest
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render

from example_project.shop.models import Order, Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet

LONGEST_MS = 60_000


def home(request: HttpRequest) -> HttpResponse:
    """Show what is for sale, and the latest orders."""
    context = {
        "products": Product.objects.filter(stock__gt=0).order_by("name")[:12],
        "orders": Order.objects.select_related("customer").order_by("-placed_at")[:8],
    }
    return render(request, "shop/home.html", context)


def order_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one order with its lines."""
    order = get_object_or_404(Order.objects.select_related("customer"), pk=pk)
    return render(request, "shop/order.html", {"order": order, "lines": order.lines.select_related("product")})


def quick(request: HttpRequest) -> JsonResponse:
    """One short query."""
    return JsonResponse({"products": Product.objects.count()})


def api_call(request: HttpRequest) -> HttpResponse:
    """Read an order, ask a payment service, store its answer: the connection is idle while the service thinks."""
    order = _orders_from_somewhere().first() or 0
    time.sleep(_seconds(request, 50))
    _store_payment(order)
    return JsonResponse({"order": order})


def atomic(request: HttpRequest) -> HttpResponse:
    """The same in a transaction, which needs the connection all the time."""
    with transaction.atomic():
        return api_call(request)


def slow_sql(request: HttpRequest) -> HttpResponse:
    """One statement that takes its time in the server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [_seconds(request, 20)])
    return HttpResponse("done")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """All orders as CSV, read through a server-side cursor while they are sent."""
    return StreamingHttpResponse(_order_rows(), content_type="text/csv")


def _order_rows() -> Iterator[str]:
    yield "order,placed at,customer\n"
    orders = Order.objects.order_by("pk").values_list("pk", "placed_at", "customer__name")
    for pk, placed_at, name in orders.iterator(chunk_size=100):
        yield f"{pk},{placed_at.isoformat()},{name}\n"


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """Like `api_call`, on the event loop."""
    order = await _orders_from_somewhere().afirst() or 0
    await asyncio.sleep(_seconds(request, 50))
    await Order.objects.filter(pk=order).aupdate(payment="paid")
    return JsonResponse({"order": order})


def on_commit(request: HttpRequest) -> HttpResponse:
    """Store a payment, and send the confirmation once that is committed."""
    seconds = _seconds(request, 50)
    with transaction.atomic():
        order = _orders_from_somewhere().first() or 0
        _store_payment(order)
        transaction.on_commit(lambda: time.sleep(seconds))
    return JsonResponse({"order": order})


def leak(request: HttpRequest) -> HttpResponse:
    """Query in a thread that never closes its connection."""
    thread = threading.Thread(target=Product.objects.count, name="stock counter")
    thread.start()
    thread.join()
    return HttpResponse("done")


def without_database(request: HttpRequest) -> HttpResponse:
    """No query at all."""
    return HttpResponse("ok")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBadRequest:
    """Answer 400 with the sentence that says why."""
    return HttpResponseBadRequest(str(exception), content_type="text/plain")


def _seconds(request: HttpRequest, default_ms: int) -> float:
    text = request.GET.get("ms", str(default_ms))
    if not text.isdecimal() or int(text) > LONGEST_MS:
        raise BadRequest(f"ms is {text!r}; it has to be a whole number of milliseconds from 0 to {LONGEST_MS}.")
    return int(text) / 1000


def _orders_from_somewhere() -> QuerySet[Order, int]:
    """Return numbers of orders; the first is another one each time, so that requests do not wait for one row."""
    return Order.objects.filter(pk__gte=random.randint(1, 400)).order_by("pk").values_list("pk", flat=True)


def _store_payment(order: int) -> None:
    Order.objects.filter(pk=order).update(payment="paid")
