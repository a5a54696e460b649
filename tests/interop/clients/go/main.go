// Command interop sends a job as Go programs do; one JSON line per push.
//
//	apns2     github.com/sideshow/apns2, unmodified, roots by SSL_CERT_FILE
//	direct    the standard library, ALPN h2 only: the push proxy without proxy variables
//	proxied   the standard library, ALPN h2 and http/1.1, through HTTPS_PROXY's value
//	impatient the standard library, a PING after 1 s of silence and 1 s for its ACK, as gorush
//	server    the standard library as a Mattermost server uses it: JSON to `url`, no provider token
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
	"golang.org/x/net/http2"
)

type push struct {
	Token   string `json:"token"`
	ID      string `json:"id"`
	Payload string `json:"payload"`
}

type job struct {
	Mode        string `json:"mode"`
	Roots       string `json:"roots"`
	ProxyURL    string `json:"proxy_url"`
	URL         string `json:"url"`
	TokenKey    string `json:"token_key"`
	KeyID       string `json:"key_id"`
	TeamID      string `json:"team_id"`
	Topic       string `json:"topic"`
	Chain       string `json:"chain"`
	Key         string `json:"key"`
	Concurrency int    `json:"concurrency"`
	Pushes      []push `json:"pushes"`
}

type entry struct {
	Token    string  `json:"token"`
	SentID   string  `json:"sent_id"`
	Status   int     `json:"status,omitempty"`
	APNsID   string  `json:"apns_id,omitempty"`
	Body     *string `json:"body,omitempty"`
	Reason   *string `json:"reason,omitempty"`
	Protocol string  `json:"protocol,omitempty"`
	Error    string  `json:"error,omitempty"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (j *job) tls(protocols ...string) *tls.Config {
	pem, err := os.ReadFile(j.Roots)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: pool, NextProtos: protocols}
	if j.Chain != "" {
		pair, err := tls.LoadX509KeyPair(j.Chain, j.Key)
		must(err)
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func (j *job) transport() http.RoundTripper {
	if j.Mode == "direct" {
		return &http2.Transport{TLSClientConfig: j.tls("h2"), ReadIdleTimeout: 15 * time.Second}
	}
	if j.Mode == "impatient" {
		return &http2.Transport{TLSClientConfig: j.tls("h2"), ReadIdleTimeout: time.Second,
			PingTimeout: time.Second}
	}
	transport := &http.Transport{
		TLSClientConfig: j.tls(),
		IdleConnTimeout: 60 * time.Second,
	}
	if j.ProxyURL != "" {
		proxy, err := url.Parse(j.ProxyURL)
		must(err)
		transport.Proxy = http.ProxyURL(proxy)
	}
	must(http2.ConfigureTransport(transport))
	return transport
}

func (j *job) bearer() *token.Token {
	key, err := token.AuthKeyFromFile(j.TokenKey)
	must(err)
	return &token.Token{AuthKey: key, KeyID: j.KeyID, TeamID: j.TeamID}
}

func (j *job) standard() func(push) entry {
	client := &http.Client{Transport: j.transport(), Timeout: 60 * time.Second}
	var bearer string
	if j.Chain == "" && j.URL == "" {
		bearer = "bearer " + j.bearer().GenerateIfExpired()
	}
	return func(p push) entry {
		e := entry{Token: p.Token, SentID: p.ID}
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		target := "https://api.push.apple.com/3/device/" + p.Token
		if j.URL != "" {
			target = j.URL
		}
		request, err := http.NewRequestWithContext(ctx, "POST", target,
			bytes.NewReader([]byte(p.Payload)))
		must(err)
		request.Header.Set("content-type", "application/json; charset=utf-8")
		if j.URL == "" {
			request.Header.Set("apns-topic", j.Topic)
			request.Header.Set("apns-id", p.ID)
			request.Header.Set("apns-push-type", "alert")
		}
		if bearer != "" {
			request.Header.Set("authorization", bearer)
		}
		answer, err := client.Do(request)
		if err != nil {
			e.Error = err.Error()
			return e
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			e.Error = err.Error()
			return e
		}
		text := string(body)
		e.Status, e.APNsID, e.Body = answer.StatusCode, answer.Header.Get("apns-id"), &text
		e.Protocol = answer.Proto
		return e
	}
}

func (j *job) apns2() func(push) entry {
	client := apns2.NewTokenClient(j.bearer()).Production()
	return func(p push) entry {
		e := entry{Token: p.Token, SentID: p.ID}
		answer, err := client.Push(&apns2.Notification{
			DeviceToken: p.Token, ApnsID: p.ID, Topic: j.Topic, Payload: []byte(p.Payload),
			PushType: apns2.PushTypeAlert, Priority: apns2.PriorityHigh,
		})
		if err != nil {
			e.Error = err.Error()
			return e
		}
		e.Status, e.APNsID, e.Reason = answer.StatusCode, answer.ApnsID, &answer.Reason
		return e
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	var j job
	must(json.Unmarshal(text, &j))
	send := j.standard
	if j.Mode == "apns2" {
		send = j.apns2
	}
	one := send()
	queue := make(chan push)
	var group sync.WaitGroup
	var out sync.Mutex
	for range j.Concurrency {
		group.Add(1)
		go func() {
			defer group.Done()
			for p := range queue {
				line, err := json.Marshal(one(p))
				must(err)
				out.Lock()
				fmt.Println(string(line))
				out.Unlock()
			}
		}()
	}
	for _, p := range j.Pushes {
		queue <- p
	}
	close(queue)
	group.Wait()
}
