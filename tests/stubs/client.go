// A caller in Go, checked by go vet: see scripts/stubs.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "leadsmith.example/go/leadsmith/v1"
)

func main() {
	conn, err := grpc.Dial("127.0.0.1:50051", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatalln(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer TOKEN")
	open, err := pb.NewLeadServiceClient(conn).List(ctx, &pb.ListLeadsRequest{States: []pb.LeadState{pb.LeadState_LEAD_STATE_OPEN}})
	if err != nil {
		log.Fatalln(err)
	}
	for _, lead := range open.Leads {
		history, err := pb.NewLeadServiceClient(conn).ListHistory(ctx, &pb.ListHistoryRequest{Id: lead.Id})
		if err != nil {
			log.Fatalln(err)
		}
		for _, entry := range history.Entries {
			for _, change := range entry.Changes {
				fmt.Println(change.Field, change.OldValue, change.NewValue)
			}
		}
		order := &pb.Order{LeadId: lead.Id, Actions: []*pb.OrderAction{{Key: "call", Type: pb.ActionType_ACTION_TYPE_MANUAL}}}
		created, err := pb.NewOrderServiceClient(conn).Create(ctx, &pb.CreateOrderRequest{Order: order, ValidateOnly: true})
		if err != nil {
			log.Fatalln(err)
		}
		for _, run := range created.Runs {
			fmt.Println(run.Action, run.Outcome, run.ErrorReason)
		}
	}
	probability := int32(0)
	fmt.Println(pb.Opportunity{Probability: &probability}.Probability != nil)
}
