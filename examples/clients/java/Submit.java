import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonSyntaxException;
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Stream;

/**
 * Submits one request to jobquay and waits for its terminal event, with amqp-client.
 *
 * <pre>
 * AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f java -cp 'target/classes:target/lib/*' Submit hello '{"name": "Ada"}'
 * </pre>
 *
 * ../README.md has the other variables, the exit codes, and the rules that the comments here refer to.
 */
public final class Submit {
  private static final String REQUESTS = "jobquay.requests";

  public static void main(String[] args) throws Exception {
    Map<String, String> env = System.getenv();
    if (args.length < 1 || args.length > 2 || !env.containsKey("AMQP_URL")) {
      System.err.println("usage: AMQP_URL=… Submit TEMPLATE [PARAMS as JSON]");
      System.exit(2);
    }
    JsonObject request = new JsonObject();
    request.addProperty("template", args[0]);
    request.add("params", JsonParser.parseString(args.length == 2 ? args[1] : "{}"));
    String requestId = env.getOrDefault("REQUEST_ID", UUID.randomUUID().toString());
    double seconds = Double.parseDouble(env.getOrDefault("TIMEOUT", "3600"));

    ConnectionFactory factory = new ConnectionFactory();
    factory.setUri(env.get("AMQP_URL"));
    // On by default: it would make an exclusive queue again under another name, which the request does not know, and
    // it sends no request again and completes no confirmation. Starting over with the same request id is safe.
    factory.setAutomaticRecoveryEnabled(false);
    int status;
    try (Connection connection = factory.newConnection("jobquay example")) {
      Duration patience = Duration.ofMillis((long) (seconds * 1000));
      Optional<JsonObject> answer = submit(connection, request, requestId, env.get("REPLY_QUEUE"), patience);
      if (answer.isEmpty()) {
        System.err.printf(
            "no answer within %s s: request %s goes on, and the same request later gets its result%n",
            seconds, requestId);
      }
      status = answer.map(data -> text(data, "state").equals("succeeded") ? 0 : 1).orElse(124);
    } catch (IOException | TimeoutException | RuntimeException e) {
      // The reason of an IOException here is mostly in its cause.
      String reason = e.getCause() == null ? e.toString() : e.getCause().toString();
      System.err.printf("request %s is not answered: %s; sending it again is safe%n", requestId, reason);
      status = 3;
    }
    System.exit(status);
  }

  /** Returns the data of the terminal event, or nothing if there is none within {@code patience}. */
  private static Optional<JsonObject> submit(
      Connection connection, JsonObject request, String requestId, String name, Duration patience)
      throws IOException, InterruptedException, TimeoutException {
    Channel channel = connection.createChannel();
    channel.confirmSelect();
    channel.basicQos(100);
    // A named queue is for work that must not be lost: it outlives this process, and a broker node. The other kind is
    // for a caller that waits: it is gone with this connection, and so is an answer that comes later.
    String replyTo =
        name == null
            ? channel.queueDeclare().getQueue()
            : channel.queueDeclare(name, true, false, false, Map.of("x-queue-type", "quorum")).getQueue();
    // The callbacks run on threads of the library, which must not wait for the channel: they only hand over. Nothing
    // in place of a delivery means that no more will come.
    BlockingQueue<Optional<Delivery>> deliveries = new LinkedBlockingQueue<>();
    channel.basicConsume( // before the request: then no answer comes too early
        replyTo,
        false,
        (tag, delivery) -> deliveries.add(Optional.of(delivery)),
        tag -> deliveries.add(Optional.empty()),
        (tag, signal) -> deliveries.add(Optional.empty()));
    publish(channel, request, requestId, replyTo);
    return answerTo(requestId, channel, deliveries, patience);
  }

  /** Returns when the broker has the request in its queue. */
  private static void publish(Channel channel, JsonObject request, String requestId, String replyTo)
      throws IOException, InterruptedException, TimeoutException {
    // The trace of this one call; a service passes on the one that it is in.
    String trace = UUID.randomUUID().toString().replace("-", "");
    String span = UUID.randomUUID().toString().replace("-", "").substring(16);
    AMQP.BasicProperties properties =
        new AMQP.BasicProperties.Builder()
            .contentType("application/json")
            .deliveryMode(2)
            .messageId(requestId)
            .correlationId(requestId)
            .replyTo(replyTo)
            .headers(Map.of("traceparent", "00-" + trace + "-" + span + "-01"))
            .build();
    // A request that no queue takes is returned first and then confirmed like any other: without `mandatory` and this
    // listener it would be dropped in silence.
    AtomicBoolean returned = new AtomicBoolean();
    channel.addReturnListener(message -> returned.set(true));
    channel.basicPublish("", REQUESTS, true, properties, request.toString().getBytes(StandardCharsets.UTF_8));
    if (!channel.waitForConfirms(30_000)) {
      throw new IOException("RabbitMQ refused it: is " + REQUESTS + " full?");
    }
    if (returned.get()) {
      throw new IOException(
          "nobody takes requests: this broker has no queue " + REQUESTS + "; start a dispatcher");
    }
  }

  /** Shows each terminal event once, and returns the data of the one of {@code requestId}. */
  private static Optional<JsonObject> answerTo(
      String requestId, Channel channel, BlockingQueue<Optional<Delivery>> deliveries, Duration patience)
      throws IOException, InterruptedException {
    Set<String> seen = new HashSet<>(); // a service keeps these where it keeps what it does with a result
    long deadline = System.nanoTime() + patience.toNanos();
    while (true) {
      Optional<Delivery> next = deliveries.poll(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
      if (next == null) {
        return Optional.empty();
      }
      Delivery delivery = next.orElseThrow(() -> new IOException("the reply queue is gone, or the connection to it"));
      long tag = delivery.getEnvelope().getDeliveryTag();
      JsonObject event;
      try {
        event = JsonParser.parseString(new String(delivery.getBody(), StandardCharsets.UTF_8)).getAsJsonObject();
      } catch (JsonSyntaxException | IllegalStateException e) {
        System.err.println("not an event: " + e.getMessage());
        channel.basicReject(tag, false);
        continue;
      }
      JsonObject data = event.getAsJsonObject("data");
      boolean terminal = data.get("terminal").getAsBoolean();
      // A named queue may still hold the answer to an earlier request: it counts like our own.
      if (terminal && seen.add(text(event, "id"))) {
        show(data);
      }
      // Only now: what is not acknowledged comes again, so that a crash above loses nothing.
      channel.basicAck(tag, false);
      if (terminal && requestId.equals(text(event, "correlationid"))) {
        return Optional.of(data);
      }
    }
  }

  private static void show(JsonObject data) {
    String line = text(data, "state") + " " + text(data, "request_id");
    JsonObject error = data.getAsJsonObject("error");
    if (error == null) {
      JsonObject result = data.has("result") ? data.getAsJsonObject("result") : new JsonObject();
      JsonElement value =
          Stream.of("json", "text", "base64", "ref").filter(result::has).map(result::get).findFirst().orElse(null);
      System.out.printf("%s (%s): %s%n", line, text(data, "served_by"), value);
      return;
    }
    String pointer = error.has("pointer") ? ", at " + text(error, "pointer") : "";
    String exitCode = error.has("exit_code") ? ", exit code " + text(error, "exit_code") : "";
    System.out.printf("%s: %s: %s%s%s%n", line, text(error, "code"), text(error, "message"), pointer, exitCode);
    text(error, "log_tail").lines().forEach(logLine -> System.out.println("    " + logLine));
  }

  private static String text(JsonObject object, String field) {
    return object.has(field) ? object.get(field).getAsString() : "";
  }
}
