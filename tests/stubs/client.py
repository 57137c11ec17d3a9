"""A caller in Python, checked by mypy --strict: see scripts/stubs."""

import grpc
from leadsmith.v1 import lead_service_pb2, lead_service_pb2_grpc, order_service_pb2, order_service_pb2_grpc
from leadsmith.v1.lead_pb2 import LEAD_STATE_OPEN, FieldChange, Lead
from leadsmith.v1.opportunity_service_pb2 import Opportunity


def changes(channel: grpc.Channel, lead_id: str) -> list[FieldChange]:
    leads = lead_service_pb2_grpc.LeadServiceStub(channel)
    request = lead_service_pb2.ListHistoryRequest(id=lead_id)
    response = leads.ListHistory(request, timeout=5, metadata=(("authorization", "Bearer TOKEN"),))
    return [change for entry in response.entries for change in entry.changes]


def described(change: FieldChange) -> str:
    return f"{change.field}: {change.old_value} -> {change.new_value}"


def open_leads(channel: grpc.Channel) -> list[Lead]:
    leads = lead_service_pb2_grpc.LeadServiceStub(channel)
    return list(leads.List(lead_service_pb2.ListLeadsRequest(states=[LEAD_STATE_OPEN]), timeout=5).leads)


def failed_runs(channel: grpc.Channel, lead_id: str) -> list[str]:
    orders = order_service_pb2_grpc.OrderServiceStub(channel)
    order = order_service_pb2.Order(lead_id=lead_id, actions=[order_service_pb2.OrderAction(key="call")])
    response = orders.Create(order_service_pb2.CreateOrderRequest(order=order), timeout=5)
    return [run.error_reason for run in response.runs if run.outcome == order_service_pb2.RUN_OUTCOME_FAILED]


def probability(opportunity: Opportunity) -> int | None:
    return opportunity.probability if opportunity.HasField("probability") else None
