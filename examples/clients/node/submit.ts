/**
 * Submits one request to jobquay and waits for its terminal event, with amqplib.
 *
 *     AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f node dist/submit.js hello '{"name": "Ada"}'
 *
 * ../README.md has the other variables, the exit codes, and the rules that the comments here refer to.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type Channel, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib';

const REQUESTS = 'jobquay.requests';

interface Data {
  request_id: string;
  state: string;
  terminal: boolean;
  served_by?: string;
  result?: { json?: unknown; text?: string; base64?: string; ref?: unknown };
  error?: { code: string; message: string; pointer?: string; exit_code?: number; log_tail?: string };
}

function show({ state, request_id, served_by, result = {}, error }: Data): void {
  if (!error) {
    const value = result.json ?? result.text ?? result.base64 ?? result.ref ?? null;
    console.log(`${state} ${request_id} (${served_by}): ${JSON.stringify(value)}`);
    return;
  }
  const pointer = error.pointer === undefined ? '' : `, at ${error.pointer}`;
  const exitCode = error.exit_code === undefined ? '' : `, exit code ${error.exit_code}`;
  console.log(`${state} ${request_id}: ${error.code}: ${error.message}${pointer}${exitCode}`);
  for (const line of error.log_tail?.trimEnd().split('\n') ?? []) console.log(`    ${line}`);
}

/** Shows each terminal event once; resolves with the one of `requestId`. */
function answerTo(requestId: string, channel: Channel, queue: string): Promise<Data> {
  const seen = new Set<string>(); // a service keeps these where it keeps what it does with a result
  return new Promise((resolve, reject) => {
    const onMessage = (message: ConsumeMessage | null) => {
      // The broker's word that it has ended the consumer.
      if (message === null) return reject(new Error(`the reply queue ${queue} is gone`));
      try {
        const event = JSON.parse(message.content.toString());
        // A named queue may still hold the answer to an earlier request: it counts like our own.
        if (event.data.terminal && !seen.has(event.id)) {
          show(event.data);
          seen.add(event.id);
          if (event.correlationid === requestId) resolve(event.data);
        }
      } catch (error) {
        console.error(`not an event: ${error}`);
        return channel.reject(message, false);
      }
      // Only now: what is not acknowledged comes again, so that a crash above loses nothing.
      channel.ack(message);
    };
    channel.consume(queue, onMessage).catch(reject);
  });
}

/** Resolves when the broker has the request in its queue. */
async function publish(channel: ConfirmChannel, request: unknown, requestId: string, replyTo: string): Promise<void> {
  const options = {
    mandatory: true,
    persistent: true,
    contentType: 'application/json',
    messageId: requestId,
    correlationId: requestId,
    replyTo,
    // The trace of this one call; a service passes on the one that it is in.
    headers: { traceparent: `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01` },
  };
  // A request that no queue takes is returned, and confirmed right after that like any other: without `mandatory`
  // and this listener it would be dropped in silence.
  let returned = false;
  channel.once('return', () => (returned = true));
  await new Promise<void>((resolve, reject) => {
    const body = Buffer.from(JSON.stringify(request));
    channel.publish('', REQUESTS, body, options, (error) => (error ? reject(error) : resolve()));
  });
  if (returned) throw new Error(`nobody takes requests: this broker has no queue ${REQUESTS}; start a dispatcher`);
}

async function submit(
  connection: ChannelModel,
  request: unknown,
  requestId: string,
  seconds: number,
): Promise<Data | undefined> {
  const channel = await connection.createConfirmChannel();
  // Nothing reconnects here (amqplib's `recovery` would not send the request again either): starting over with the
  // same request id is safe. And an 'error' that nobody listens to would end the process.
  const lost = new Promise<never>((_, reject) => {
    connection.on('error', reject).on('close', (error) => reject(error ?? new Error('closed')));
    channel.on('error', reject);
  });
  await channel.prefetch(100);
  // A named queue is for work that must not be lost: it outlives this process, and a broker node. The other kind is
  // for a caller that waits: it is gone with this connection, and so is an answer that comes later.
  const name = process.env.REPLY_QUEUE;
  const { queue } = name
    ? await channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum' } })
    : await channel.assertQueue('', { exclusive: true });

  const answer = answerTo(requestId, channel, queue); // consumes first: then no answer comes too early
  // A broker that is out of memory or disk stops reading: the confirmation then does not come.
  const unconfirmed = sleep(30_000, undefined, { ref: false }).then(() => {
    throw new Error('the request was not confirmed within 30 s');
  });
  await Promise.race([publish(channel, request, requestId, queue), answer, lost, unconfirmed]);
  const data = await Promise.race([answer, lost, sleep(seconds * 1000, undefined, { ref: false })]);
  await channel.close(); // the closing of a connection overtakes acknowledgements that are still to be sent
  return data;
}

async function main(): Promise<number> {
  const [template, params = '{}'] = process.argv.slice(2);
  const url = process.env.AMQP_URL;
  if (!template || !url) {
    console.error('usage: AMQP_URL=… submit.js TEMPLATE [PARAMS as JSON]');
    return 2;
  }
  const request = { template, params: JSON.parse(params) };
  const requestId = process.env.REQUEST_ID || randomUUID();
  const seconds = Number(process.env.TIMEOUT ?? 3600);
  try {
    const connection = await connect(url, { timeout: 30_000 });
    try {
      const answer = await submit(connection, request, requestId, seconds);
      if (answer) return answer.state === 'succeeded' ? 0 : 1;
    } finally {
      await connection.close().catch(() => {});
    }
    console.error(
      `no answer within ${seconds} s: request ${requestId} goes on, and the same request later gets its result`,
    );
    return 124;
  } catch (error) {
    console.error(`request ${requestId} is not answered: ${error}; sending it again is safe`);
    return 3;
  }
}

process.exitCode = await main();
