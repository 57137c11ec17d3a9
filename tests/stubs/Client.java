// A caller in Java, checked by javac -Xlint:all -Werror: see scripts/stubs.
import com.leadsmith.v1.CreateOrderRequest;
import com.leadsmith.v1.FieldChange;
import com.leadsmith.v1.Lead;
import com.leadsmith.v1.LeadServiceGrpc;
import com.leadsmith.v1.LeadState;
import com.leadsmith.v1.ListHistoryRequest;
import com.leadsmith.v1.ListLeadsRequest;
import com.leadsmith.v1.Opportunity;
import com.leadsmith.v1.Order;
import com.leadsmith.v1.OrderAction;
import com.leadsmith.v1.OrderServiceGrpc;
import com.leadsmith.v1.RunOutcome;
import io.grpc.Channel;
import java.util.List;
import java.util.OptionalInt;
import java.util.concurrent.TimeUnit;

public final class Client {
    private final LeadServiceGrpc.LeadServiceBlockingStub leads;
    private final OrderServiceGrpc.OrderServiceBlockingStub orders;

    public Client(Channel channel) {
        leads = LeadServiceGrpc.newBlockingStub(channel);
        orders = OrderServiceGrpc.newBlockingStub(channel);
    }

    public List<Lead> openLeads() {
        ListLeadsRequest request = ListLeadsRequest.newBuilder().addStates(LeadState.LEAD_STATE_OPEN).build();
        return leads.withDeadlineAfter(5, TimeUnit.SECONDS).list(request).getLeadsList();
    }

    public List<String> changes(String id) {
        ListHistoryRequest request = ListHistoryRequest.newBuilder().setId(id).build();
        return leads.listHistory(request).getEntriesList().stream()
                .flatMap(entry -> entry.getChangesList().stream())
                .map(Client::described)
                .toList();
    }

    private static String described(FieldChange change) {
        return change.getField() + ": " + change.getOldValue() + " -> " + change.getNewValue();
    }

    public boolean anyRunFailed(String leadId) {
        OrderAction action = OrderAction.newBuilder().setKey("call").build();
        Order order = Order.newBuilder().setLeadId(leadId).addActions(action).build();
        CreateOrderRequest request = CreateOrderRequest.newBuilder().setOrder(order).build();
        return orders.create(request).getRunsList().stream()
                .anyMatch(run -> run.getOutcome() == RunOutcome.RUN_OUTCOME_FAILED);
    }

    public static OptionalInt probability(Opportunity opportunity) {
        return opportunity.hasProbability() ? OptionalInt.of(opportunity.getProbability()) : OptionalInt.empty();
    }
}
