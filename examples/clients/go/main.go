// Submits one request to jobquay and waits for its terminal event, with amqp091-go.
//
//	AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f go run . hello '{"name": "Ada"}'
//
// ../README.md has the other variables, the exit codes, and the rules that the comments here refer to.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

const requests = "jobquay.requests"

type event struct {
	ID            string `json:"id"`
	CorrelationID string `json:"correlationid"`
	Data          data   `json:"data"`
}

type data struct {
	RequestID string `json:"request_id"`
	State     string `json:"state"`
	Terminal  bool   `json:"terminal"`
	ServedBy  string `json:"served_by"`
	// As it came: a float64 would round large numbers.
	Result struct{ JSON, Text, Base64, Ref json.RawMessage } `json:"result"`
	Error  *struct {
		Code     string `json:"code"`
		Message  string `json:"message"`
		Pointer  string `json:"pointer"`
		ExitCode *int   `json:"exit_code"`
		LogTail  string `json:"log_tail"`
	} `json:"error"`
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 || os.Getenv("AMQP_URL") == "" {
		fmt.Fprintln(os.Stderr, "usage: AMQP_URL=… submit TEMPLATE [PARAMS as JSON]")
		os.Exit(2)
	}
	params := json.RawMessage("{}")
	if len(os.Args) == 3 {
		params = json.RawMessage(os.Args[2])
	}
	body, err := json.Marshal(map[string]any{"template": os.Args[1], "params": params})
	timeout, wrong := time.ParseDuration(cmp.Or(os.Getenv("TIMEOUT"), "3600") + "s")
	if err = errors.Join(err, wrong); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	requestID := cmp.Or(os.Getenv("REQUEST_ID"), uuid.NewString())
	answer, err := submit(body, requestID, timeout)
	switch {
	case errors.Is(err, errNoAnswer):
		fmt.Fprintf(os.Stderr, "no answer within %s: request %s goes on, and the same request later gets its result\n",
			timeout, requestID)
		os.Exit(124)
	case err != nil:
		fmt.Fprintf(os.Stderr, "request %s is not answered: %v; sending it again is safe\n", requestID, err)
		os.Exit(3)
	case answer.State != "succeeded":
		os.Exit(1)
	}
}

var errNoAnswer = errors.New("no answer in time")

func submit(body []byte, requestID string, timeout time.Duration) (*data, error) {
	// Nothing reconnects here (the library's Recovery would not send the request again either): starting over with
	// the same request id is safe.
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(channel.Confirm(false), channel.Qos(100, 0, false)); err != nil {
		return nil, err
	}
	replyTo, err := declareReplyQueue(channel, os.Getenv("REPLY_QUEUE"))
	if err != nil {
		return nil, err
	}
	// Before the request: then no answer comes too early.
	deliveries, err := channel.Consume(replyTo, "", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	if err := publish(channel, body, requestID, replyTo); err != nil {
		return nil, err
	}
	return answerTo(requestID, deliveries, timeout)
}

func declareReplyQueue(channel *amqp.Channel, name string) (string, error) {
	durable, exclusive, arguments := false, true, amqp.Table(nil)
	if name != "" {
		// For work that must not be lost: it outlives this process, and a broker node. The other kind is for a
		// caller that waits: it is gone with this connection, and so is an answer that comes later.
		durable, exclusive, arguments = true, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	}
	queue, err := channel.QueueDeclare(name, durable, false, exclusive, false, arguments)
	return queue.Name, err
}

// publish returns when the broker has the request in its queue.
func publish(channel *amqp.Channel, body []byte, requestID, replyTo string) error {
	// The library's only reader goroutine writes to this channel. Unbuffered, or with nobody who takes out what it
	// holds, it would block that goroutine, and with it every confirmation, delivery and Close. Room for one is
	// enough for one request; who sends more needs a goroutine that drains it.
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	traceID, spanID := uuid.New(), uuid.New()
	// `mandatory`, or a request that no queue takes would be confirmed and dropped.
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", requests, true, false, amqp.Publishing{
		ContentType:   "application/json",
		DeliveryMode:  amqp.Persistent,
		MessageId:     requestID,
		CorrelationId: requestID,
		ReplyTo:       replyTo,
		// The trace of this one call; a service passes on the one that it is in.
		Headers: amqp.Table{"traceparent": fmt.Sprintf("00-%x-%x-01", traceID[:], spanID[:8])},
		Body:    body,
	})
	if err != nil {
		return err
	}
	confirmed, err := confirmation.WaitContext(ctx)
	if err != nil {
		return fmt.Errorf("not confirmed: %w", err)
	}
	// A returned request is confirmed all the same, and the return comes first: it is here by now.
	select {
	case <-returns:
		return fmt.Errorf("nobody takes requests: this broker has no queue %s; start a dispatcher", requests)
	default:
	}
	if !confirmed {
		return fmt.Errorf("RabbitMQ refused it: is %s full?", requests)
	}
	return nil
}

// answerTo shows each terminal event once, and returns the one of requestID.
func answerTo(requestID string, deliveries <-chan amqp.Delivery, timeout time.Duration) (*data, error) {
	seen := map[string]bool{} // a service keeps these where it keeps what it does with a result
	expired := time.After(timeout)
	for {
		select {
		case <-expired:
			return nil, errNoAnswer
		case delivery, open := <-deliveries:
			if !open {
				return nil, errors.New("the reply queue is gone, or the connection to it")
			}
			var event event
			if err := json.Unmarshal(delivery.Body, &event); err != nil {
				fmt.Fprintln(os.Stderr, "not an event:", err)
				if err := delivery.Reject(false); err != nil {
					return nil, err
				}
				continue
			}
			// A named queue may still hold the answer to an earlier request: it counts like our own.
			if event.Data.Terminal && !seen[event.ID] {
				show(event.Data)
				seen[event.ID] = true
			}
			// Only now: what is not acknowledged comes again, so that a crash above loses nothing.
			if err := delivery.Ack(false); err != nil {
				return nil, err
			}
			if event.Data.Terminal && event.CorrelationID == requestID {
				return &event.Data, nil
			}
		}
	}
}

func show(data data) {
	if data.Error == nil {
		result := data.Result
		for _, value := range []json.RawMessage{result.JSON, result.Text, result.Base64, result.Ref} {
			if value != nil {
				fmt.Printf("%s %s (%s): %s\n", data.State, data.RequestID, data.ServedBy, value)
				return
			}
		}
		fmt.Printf("%s %s (%s)\n", data.State, data.RequestID, data.ServedBy)
		return
	}
	fmt.Printf("%s %s: %s: %s", data.State, data.RequestID, data.Error.Code, data.Error.Message)
	if data.Error.Pointer != "" {
		fmt.Printf(", at %s", data.Error.Pointer)
	}
	if data.Error.ExitCode != nil {
		fmt.Printf(", exit code %d", *data.Error.ExitCode)
	}
	fmt.Println()
	for line := range strings.Lines(data.Error.LogTail) {
		fmt.Printf("    %s\n", strings.TrimSuffix(line, "\n"))
	}
}
