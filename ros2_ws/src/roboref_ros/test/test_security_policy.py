"""The SROS2 policy against what the nodes really offer, as their graph tells it."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import rclpy
from in_process import spinning
from roboref_ros.clients import ReferClient
from roboref_ros.go_to import GoTo

POLICY = Path(__file__).parents[1] / "security" / "roboref.policy.xml"
# (element, attribute) -> what the graph calls it.
RULES = {
    ("topics", "publish"): "publisher",
    ("topics", "subscribe"): "subscriber",
    ("services", "reply"): "service",
    ("services", "request"): "client",
}
# What an action is made of, for its server; its client has the reverse.
ACTION = {
    "publisher": ("feedback", "status"),
    "service": ("send_goal", "get_result", "cancel_goal"),
}
REVERSE = {"publisher": "subscriber", "service": "client"}
# Offered only where these packages are installed.
OPTIONAL = {
    "tf2_ros": {
        ("subscriber", "/tf"),
        ("subscriber", "/tf_static"),
        ("service", "{ns}/roboref_tf/get_type_description"),
    },
    "bondpy": {("publisher", "{ns}/bond"), ("subscriber", "{ns}/bond")},
}


def allowed(enclave: str, ns: str) -> set[tuple[str, str]]:
    """(kind, full name) of all that an enclave may do, with another namespace than the policy's root."""
    found = ElementTree.parse(POLICY).find(f"enclaves/enclave[@path='{enclave}']")
    rules = set()
    for profile in found.iterfind("profiles/profile"):
        assert profile.get("ns") == "/"

        def full(name: str, node: str = profile.get("node")) -> str:
            if name.startswith("~"):
                return f"{ns}/{node}{name[1:]}"
            return name if name.startswith("/") else f"{ns}/{name}"

        for group in profile:
            for attribute, value in group.attrib.items():
                assert value == "ALLOW"
                for name in (full(entry.text) for entry in group):
                    if group.tag == "actions":
                        kinds = {kind: kind for kind in ACTION} if attribute == "execute" else REVERSE
                        rules |= {(kinds[k], f"{name}/_action/{part}") for k, parts in ACTION.items() for part in parts}
                    else:
                        rules.add((RULES[group.tag, attribute], name))
    return rules


def offered(node, *names: str) -> set[tuple[str, str]]:
    """(kind, full name) of what the nodes of these names have, when the graph has settled."""
    ns, graph = node.get_namespace(), set()
    deadline, last = time.monotonic() + 20, None
    while not graph or graph != last:
        assert time.monotonic() < deadline, "the graph does not settle"
        time.sleep(0.3)
        last, graph = graph, set()
        for name in names:
            for kind in ("publisher", "subscriber", "service", "client"):
                try:
                    entries = getattr(node, f"get_{kind}_names_and_types_by_node")(name, ns)
                except rclpy.node.NodeNameNonExistentError:
                    continue
                graph |= {(kind, topic) for topic, _ in entries}
    return graph


def test_all_that_is_under_enclaves_is_an_enclave():
    """sros2 takes comments there for enclaves without a name."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    assert {child.tag for child in ElementTree.parse(POLICY, parser).find("enclaves")} == {"enclave"}


def installed(package: str) -> bool:
    return find_spec(package) is not None


def test_the_nodes_enclave_is_what_the_node_offers_and_no_more(domain):
    everything = {"color.transport": "compressed", "depth.transport": "compressedDepth", "use_sim_time": True}
    ways = {"pose": {}, "odometry": everything} | ({"tf": {}} if installed("tf2_ros") else {})
    seen = set()
    for source, parameters in ways.items():
        ns = f"/{source}_of"
        with spinning(domain, start=False, name=f"{ns}/roboref", **{"pose.source": source} | parameters) as (node, _):
            for step in (node.trigger_configure, node.trigger_activate):
                assert step() == rclpy.lifecycle.TransitionCallbackReturn.SUCCESS
            graph = offered(node, "roboref", "roboref_tf")
        policy = allowed("/roboref", ns)
        assert not graph - policy, f"with poses from {source}, the policy lacks these"
        seen |= {(kind, name.replace(f"{ns}/", "{ns}/")) for kind, name in graph}
    for package, rules in OPTIONAL.items():
        seen |= set() if installed(package) else rules
    assert not allowed("/roboref", "{ns}") - seen, "the policy allows what the node does not do"


@pytest.fixture
def context(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    context.shutdown()


def test_the_clients_enclave_is_what_the_client_needs(context):
    node = rclpy.create_node("asker", namespace="/ns", context=context)
    client = ReferClient(node)
    assert offered(node, "asker_refer_client") == allowed("/roboref/client", "/ns")
    client.close()
    node.destroy_node()


def test_go_tos_enclave_is_enough_for_it(context):
    node = GoTo(context=context)
    navigation = {rule for rule in allowed("/roboref/go_to", "") if "navigate_to_pose" in rule[1]}
    graph = offered(node, "go_to", "go_to_refer_client")
    # Without a navigation server it publishes the goal; /clock is for simulated time.
    assert graph == allowed("/roboref/go_to", "") - navigation - {("subscriber", "/clock")}
    node.close()


@pytest.mark.parametrize("enclave", ["/roboref/operator", "/roboref/manager"])
def test_people_and_managers_may_use_what_exists(enclave):
    node = allowed("/roboref", "")
    counterparts = {"publisher": "subscriber", "subscriber": "publisher", "client": "service"}
    theirs = {"/parameter_events", "/rosout", "/tf", "/tf_static"}
    unknown = {
        (kind, name)
        for kind, name in allowed(enclave, "")
        if name not in theirs and (counterparts[kind], name) not in node
    }
    assert not unknown


def test_nobody_but_the_manager_changes_states_or_parameters():
    for enclave in ("/roboref/client", "/roboref/go_to", "/roboref/operator"):
        requested = {name for kind, name in allowed(enclave, "") if kind == "client"}
        assert not {name for name in requested if name.endswith(("/change_state", "/set_parameters"))}
