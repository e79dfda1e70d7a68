"""Django's own test classes: isolation, flushing, hooks, counted queries, live servers, routers, ATOMIC_REQUESTS."""

from __future__ import annotations

import threading
from unittest import skipUnless
from urllib.request import urlopen

from django.db import connection, connections, transaction
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from example_project.shop.models import Customer, Product
from tests.engine.cases import views

RELEASING = getattr(connection, "releases_after_query", False)


def make_customer(name: str = "Ada") -> Customer:
    """Return a customer who is stored."""
    return Customer.objects.create(name=name, email=f"{name}@shop")


class Isolation(TestCase):
    """Each test in a transaction that is rolled back, on one connection."""

    customer: Customer

    @classmethod
    def setUpTestData(cls) -> None:
        cls.customer = make_customer()

    def test_one(self) -> None:
        self.customer.name = "changed"
        self.customer.save()
        make_customer("Bob")
        self.assertEqual(Customer.objects.count(), 2)

    def test_two(self) -> None:
        self.assertEqual(self.customer.name, "Ada")
        self.assertEqual([found.name for found in Customer.objects.iterator()], ["Ada"])

    def test_held(self) -> None:
        Customer.objects.count()
        self.assertIsNotNone(connection.connection)
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            make_customer("Bob")
            raise ZeroDivisionError
        self.assertEqual(Customer.objects.count(), 1)

    def test_hooks(self) -> None:
        seen: list[int] = []
        with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
            transaction.on_commit(lambda: seen.append(1))
        self.assertEqual((seen, len(callbacks)), ([1], 1))

    def test_client(self) -> None:
        self.assertEqual(self.client.get("/quick/").json(), {"products": 0})
        self.assertEqual(self.client.get("/atomic/?ms=0").json(), {"order": 0})

    def test_counted(self) -> None:
        with self.assertNumQueries(1):
            Customer.objects.count()
        with self.assertNumQueries(4), transaction.atomic():  # a savepoint, and its release
            Customer.objects.count()
            Customer.objects.count()


class Transactions(TransactionTestCase):
    """Real transactions; the tables are flushed after each test."""

    def test_commit(self) -> None:
        seen: list[bool] = []
        with transaction.atomic():
            make_customer()
            transaction.on_commit(lambda: seen.append(connection.connection is not None))
        self.assertEqual(seen, [not RELEASING])
        found: list[int] = []

        def look() -> None:
            found.append(Customer.objects.count())
            connections.close_all()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertEqual(found, [1])

    def test_flushed(self) -> None:
        self.assertEqual(Customer.objects.count(), 0)
        make_customer()

    def test_flushed_again(self) -> None:
        self.assertEqual(Customer.objects.count(), 0)
        make_customer()

    def test_counted(self) -> None:
        with self.assertNumQueries(4), transaction.atomic():  # BEGIN and COMMIT
            Customer.objects.count()
            Customer.objects.count()
        with CaptureQueriesContext(connection) as captured:
            make_customer()
            Customer.objects.select_for_update().filter(name="x")
        self.assertEqual(len(captured), 1)

    @skipUnless(RELEASING, "the stock engine holds")
    def test_given_back(self) -> None:
        Customer.objects.count()
        self.assertIsNone(connection.connection)


@override_settings(DATABASE_ROUTERS=["tests.engine.cases.routers.CustomersElsewhere"])
class SeveralAliases(TransactionTestCase):
    """Customers on one database, products on another."""

    databases = {"default", "other"}  # noqa: RUF012 - as projects write it

    def test_routed(self) -> None:
        with transaction.atomic(using="other"), transaction.atomic():
            make_customer()
            Product.objects.create(name="Tea", price=1, stock=1)
            self.assertEqual(Customer.objects.all().db, "other")
        self.assertEqual(Customer.objects.using("other").count(), 1)
        self.assertEqual(Customer.objects.using("default").count(), 0)
        self.assertEqual(Product.objects.count(), 1)
        with self.assertRaises(ZeroDivisionError), transaction.atomic(using="other"):
            make_customer("Bob")
            Product.objects.create(name="Cup", price=1, stock=1)
            raise ZeroDivisionError
        self.assertEqual((Customer.objects.count(), Product.objects.count()), (1, 2))


class SeveralAliasesIsolated(TestCase):
    """Both databases in transactions."""

    databases = "__all__"

    def test_isolated(self) -> None:
        for alias in ("default", "other"):
            self.assertEqual(Customer.objects.using(alias).count(), 0)
            Customer.objects.using(alias).create(name="Ada", email="ada@shop")

    test_isolated_again = test_isolated


class NoDatabase(SimpleTestCase):
    """Where databases are forbidden, a connection that was used before is forbidden too."""

    def test_refused(self) -> None:
        with self.assertRaises(AssertionError):
            Customer.objects.count()
        with self.assertRaises(AssertionError), connection.cursor():
            pass


class LiveServer(LiveServerTestCase):
    """Requests by real sockets, in threads of the server."""

    def test_requests(self) -> None:
        Product.objects.create(name="Tea", price=1, stock=1)
        for _ in range(5):
            with urlopen(f"{self.live_server_url}/quick/", timeout=20) as response:
                self.assertEqual(response.read(), b'{"products": 1}')
        with urlopen(f"{self.live_server_url}/stream/", timeout=20) as response:
            self.assertTrue(response.read().startswith(b"order,"))


@override_settings(ROOT_URLCONF="tests.engine.cases.views")
class AtomicRequests(TransactionTestCase):
    """Each view in a transaction."""

    databases = "__all__"

    def setUp(self) -> None:
        for wrapper in connections.all():
            before = wrapper.settings_dict["ATOMIC_REQUESTS"]
            wrapper.settings_dict["ATOMIC_REQUESTS"] = True
            self.addCleanup(wrapper.settings_dict.__setitem__, "ATOMIC_REQUESTS", before)
        self.client.raise_request_exception = False
        views.seen.clear()

    def test_committed(self) -> None:
        self.assertEqual(self.client.get("/store/").status_code, 200)
        self.assertEqual(Customer.objects.count(), 1)
        self.assertEqual(views.seen, [("in block", True), ("hook", not RELEASING)])

    def test_rolled_back(self) -> None:
        self.assertEqual(self.client.get("/fail/").status_code, 500)
        self.assertEqual(Customer.objects.count(), 0)
        if RELEASING:
            self.assertIsNone(connection.connection)

    def test_exempt(self) -> None:
        self.assertEqual(self.client.get("/fail-without/").status_code, 500)
        self.assertEqual(Customer.objects.count(), 1)

    def test_async_views_are_refused(self) -> None:
        self.assertEqual(self.client.get("/async/").status_code, 500)


@override_settings(
    ROOT_URLCONF="tests.engine.cases.views",
    MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware"],
    DEBUG=True,
)
class Toolbar(TransactionTestCase):
    """Debug toolbar's SQL panel, which wraps connection.cursor() and builds classes over its cursors."""

    def test_sql_panel(self) -> None:
        make_customer()
        response = self.client.get("/page/")
        self.assertContains(response, "djDebug")
        self.assertContains(response, "customers: 1")
        if RELEASING:
            self.assertIsNone(connection.connection)
        (entry,) = {query["sql"] for query in views.panel_queries() if "shop_customer" in query["sql"]}
        self.assertIn("COUNT(*)", entry)

    def test_forced_debug_cursor(self) -> None:
        with self.settings(DEBUG=True):
            connection.queries_log.clear()
            Customer.objects.count()
            with transaction.atomic():
                make_customer()
            self.assertEqual(len(connection.queries), 4)
