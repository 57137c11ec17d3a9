// A caller in TypeScript, checked by tsc --strict: see scripts/stubs. It uses nice-grpc, because the clients that are
// generated for grpc-js inherit a method close, which is also the name of an RPC.
import { createChannel, createClient, Metadata } from "nice-grpc";
import { LeadState, type FieldChange, type Lead } from "./leadsmith/v1/lead";
import { type LeadServiceClient, LeadServiceDefinition } from "./leadsmith/v1/lead_service";
import {
  type Opportunity,
  OpportunityOutcome,
  type OpportunityServiceClient,
  OpportunityServiceDefinition,
} from "./leadsmith/v1/opportunity_service";
import { OrderAction, type OrderServiceClient, OrderServiceDefinition, RunOutcome } from "./leadsmith/v1/order_service";

const channel = createChannel("127.0.0.1:50051");
const leads: LeadServiceClient = createClient(LeadServiceDefinition, channel);
const opportunities: OpportunityServiceClient = createClient(OpportunityServiceDefinition, channel);
const orders: OrderServiceClient = createClient(OrderServiceDefinition, channel);
const metadata = Metadata({ authorization: "Bearer TOKEN" });

export async function openLeads(): Promise<Lead[]> {
  return (await leads.list({ states: [LeadState.LEAD_STATE_OPEN] }, { metadata })).leads;
}

export async function changes(id: string): Promise<string[]> {
  const { entries } = await leads.listHistory({ id }, { metadata });
  const described = (change: FieldChange) => `${change.field}: ${change.oldValue} -> ${change.newValue}`;
  return entries.flatMap((entry) => entry.changes.map(described));
}

export async function failedRuns(leadId: string): Promise<string[]> {
  const actions = [OrderAction.fromPartial({ key: "call" })];
  const { runs } = await orders.create({ order: { leadId, actions } }, { metadata });
  return runs.filter((run) => run.outcome === RunOutcome.RUN_OUTCOME_FAILED).map((run) => run.errorReason);
}

export async function win(id: string): Promise<Opportunity | undefined> {
  const outcome = OpportunityOutcome.OPPORTUNITY_OUTCOME_WON;
  return (await opportunities.close({ id, outcome }, { metadata })).opportunity;
}

export function probability(opportunity: Opportunity): number | undefined {
  return opportunity.probability;
}
