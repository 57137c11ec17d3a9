// A caller in TypeScript, checked by tsc --strict: see scripts/stubs.
import { credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { LeadState, type FieldChange, type Lead } from "./leadsmith/v1/lead";
import {
  LeadServiceClient,
  ListHistoryRequest,
  type ListHistoryResponse,
  ListLeadsRequest,
  type ListLeadsResponse,
} from "./leadsmith/v1/lead_service";
import type { Opportunity } from "./leadsmith/v1/opportunity_service";
import {
  CreateOrderRequest,
  type CreateOrderResponse,
  OrderAction,
  OrderServiceClient,
  RunOutcome,
} from "./leadsmith/v1/order_service";

const address = "127.0.0.1:50051";
const leads = new LeadServiceClient(address, credentials.createInsecure());
const orders = new OrderServiceClient(address, credentials.createInsecure());
const metadata = new Metadata();
metadata.set("authorization", "Bearer TOKEN");

function unary<T>(call: (done: (error: ServiceError | null, response: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => call((error, response) => (error ? reject(error) : resolve(response))));
}

export async function openLeads(): Promise<Lead[]> {
  const request = ListLeadsRequest.fromPartial({ states: [LeadState.LEAD_STATE_OPEN] });
  return (await unary<ListLeadsResponse>((done) => leads.list(request, metadata, done))).leads;
}

export async function changes(id: string): Promise<string[]> {
  const request = ListHistoryRequest.fromPartial({ id });
  const { entries } = await unary<ListHistoryResponse>((done) => leads.listHistory(request, metadata, done));
  const described = (change: FieldChange) => `${change.field}: ${change.oldValue} -> ${change.newValue}`;
  return entries.flatMap((entry) => entry.changes.map(described));
}

export async function failedRuns(leadId: string): Promise<string[]> {
  const actions = [OrderAction.fromPartial({ key: "call" })];
  const request = CreateOrderRequest.fromPartial({ order: { leadId, actions } });
  const { runs } = await unary<CreateOrderResponse>((done) => orders.create(request, metadata, done));
  return runs.filter((run) => run.outcome === RunOutcome.RUN_OUTCOME_FAILED).map((run) => run.errorReason);
}

export function probability(opportunity: Opportunity): number | undefined {
  return opportunity.probability;
}
