import com.eatthepath.pushy.apns.ApnsClient;
import com.eatthepath.pushy.apns.ApnsClientBuilder;
import com.eatthepath.pushy.apns.DeliveryPriority;
import com.eatthepath.pushy.apns.PushNotificationResponse;
import com.eatthepath.pushy.apns.PushType;
import com.eatthepath.pushy.apns.auth.ApnsSigningKey;
import com.eatthepath.pushy.apns.auth.ApnsVerificationKey;
import com.eatthepath.pushy.apns.server.MockApnsServer;
import com.eatthepath.pushy.apns.server.MockApnsServerBuilder;
import com.eatthepath.pushy.apns.server.MockApnsServerListener;
import com.eatthepath.pushy.apns.server.RejectionReason;
import com.eatthepath.pushy.apns.server.ValidatingPushNotificationHandlerFactory;
import com.eatthepath.pushy.apns.util.SimpleApnsPushNotification;
import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http2.Http2Headers;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileWriter;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.interfaces.ECPublicKey;
import java.security.spec.X509EncodedKeySpec;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * pushy as a sender and pushy's MockApnsServer as an origin, both unmodified.
 *
 * <pre>
 *   Interop serve PORT CHAIN KEY PUBLIC_KEY TEAM KEY_ID TOPIC TOKENS LEDGER ALPN
 *   Interop send HOST PORT ROOTS TOKEN_KEY TEAM KEY_ID TOPIC PUSHES ALPN CONCURRENCY
 * </pre>
 *
 * TOKENS is a file with one registered device token a line; PUSHES one "token id payload" a line.
 */
public final class Interop {
  public static void main(String[] args) throws Exception {
    if (args[0].equals("serve")) {
      serve(args);
    } else {
      send(args);
      System.exit(0);
    }
  }

  private static void serve(String[] args) throws Exception {
    byte[] der = Base64.getMimeDecoder().decode(
        Files.readString(Path.of(args[4])).replaceAll("-----[A-Z ]+-----", ""));
    ECPublicKey point =
        (ECPublicKey) KeyFactory.getInstance("EC").generatePublic(new X509EncodedKeySpec(der));
    ApnsVerificationKey key = new ApnsVerificationKey(args[6], args[5], point);
    Set<String> tokens = new HashSet<>(Files.readAllLines(Path.of(args[8])));
    Map<String, Set<String>> byTopic = new HashMap<>();
    byTopic.put(args[7], tokens);
    PrintWriter ledger = new PrintWriter(new FileWriter(args[9], true), true);
    MockApnsServer server = new MockApnsServerBuilder()
        .setServerCredentials(new File(args[2]), new File(args[3]), null)
        .setUseAlpn(Boolean.parseBoolean(args[10]))
        .setHandlerFactory(new ValidatingPushNotificationHandlerFactory(
            byTopic, Collections.emptyMap(), Map.of(args[6], key),
            Map.of(key, Set.of(args[7]))))
        .setListener(new Ledger(ledger))
        .build();
    server.start(Integer.parseInt(args[1])).get(20, TimeUnit.SECONDS);
    Thread.currentThread().join();
  }

  /** Writes what the server decided. */
  private static final class Ledger implements MockApnsServerListener {
    private final PrintWriter out;

    Ledger(PrintWriter out) {
      this.out = out;
    }

    @Override
    public void handlePushNotificationAccepted(Http2Headers headers, ByteBuf payload) {
      write(headers, payload, "accepted");
    }

    @Override
    public void handlePushNotificationRejected(
        Http2Headers headers, ByteBuf payload, RejectionReason reason, Instant expiry) {
      write(headers, payload, reason.name());
    }

    private synchronized void write(Http2Headers headers, ByteBuf payload, String verdict) {
      List<String> names = new ArrayList<>();
      headers.forEach(field -> names.add("\"" + field.getKey() + "\""));
      out.printf("{\"event\":\"request\",\"path\":\"%s\",\"authority\":\"%s\",\"apns_id\":\"%s\","
              + "\"names\":[%s],\"length\":%d,\"verdict\":\"%s\"}%n",
          headers.path(), headers.authority(), headers.get("apns-id"), String.join(",", names),
          payload == null ? 0 : payload.readableBytes(), verdict);
    }
  }

  private static void send(String[] args) throws Exception {
    ApnsClient client = new ApnsClientBuilder()
        .setApnsServer(args[1], Integer.parseInt(args[2]))
        .setTrustedServerCertificateChain(new File(args[3]))
        .setSigningKey(ApnsSigningKey.loadFromInputStream(
            new FileInputStream(args[4]), args[5], args[6]))
        .setUseAlpn(Boolean.parseBoolean(args[9]))
        .build();
    Semaphore gate = new Semaphore(Integer.parseInt(args[10]));
    List<String> pushes = Files.readAllLines(Path.of(args[8]));
    Semaphore done = new Semaphore(0);
    for (String line : pushes) {
      String[] push = line.split(" ", 3);
      if (!gate.tryAcquire(20, TimeUnit.SECONDS)) {
        break;
      }
      SimpleApnsPushNotification note = new SimpleApnsPushNotification(
          push[0], args[7], push[2], null, DeliveryPriority.IMMEDIATE, PushType.ALERT, null,
          UUID.fromString(push[1]));
      client.sendNotification(note).whenComplete((response, failure) -> {
        System.out.println(line(push[0], push[1], response, failure));
        gate.release();
        done.release();
      });
    }
    done.tryAcquire(pushes.size(), 20 + pushes.size() / 10, TimeUnit.SECONDS);
    System.out.flush();
  }

  private static synchronized String line(String token, String id,
      PushNotificationResponse<SimpleApnsPushNotification> response, Throwable failure) {
    if (failure != null) {
      return String.format("{\"token\":\"%s\",\"sent_id\":\"%s\",\"error\":\"%s\"}", token, id,
          String.valueOf(failure).replaceAll("[\"\\\\\\n]", " "));
    }
    return String.format("{\"token\":\"%s\",\"sent_id\":\"%s\",\"status\":%d,\"apns_id\":\"%s\","
        + "\"reason\":\"%s\"}", token, id, response.getStatusCode(), response.getApnsId(),
        response.getRejectionReason().orElse(""));
  }
}
