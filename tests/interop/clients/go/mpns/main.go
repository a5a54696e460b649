// Command mpns pushes as the Mattermost push proxy does: apns2 and x/net in its versions, three
// tries of 8 s with waits of 1 s and 2 s, 30 s in all; any answer that can be read is final.
//
//	mpns ADDRESS ROOTS COUNT PER_SECOND
//
// Every name leads to ADDRESS. One JSON line per push.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
)

const (
	tries      = 3
	tryTimeout = 8 * time.Second
	allTimeout = 30 * time.Second
)

type line struct {
	Token  string `json:"token"`
	Status int    `json:"status"`
	Reason string `json:"reason,omitempty"`
	Tries  int    `json:"tries"`
	TookMs int64  `json:"took_ms"`
	Error  string `json:"error,omitempty"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func client(address, roots string) *apns2.Client {
	pem, err := os.ReadFile(roots)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	apns2.DialTLS = func(network, _ string, config *tls.Config) (net.Conn, error) {
		config = config.Clone()
		config.RootCAs = pool
		dialer := &net.Dialer{Timeout: apns2.TLSDialTimeout, KeepAlive: apns2.TCPKeepAlive}
		return tls.DialWithDialer(dialer, network, address, config)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	bearer := &token.Token{AuthKey: key, KeyID: "KEY0000001", TeamID: "TEAM000001"}
	return apns2.NewTokenClient(bearer).Production()
}

func send(to *apns2.Client, device string) line {
	began := time.Now()
	all, cancel := context.WithTimeout(context.Background(), allTimeout)
	defer cancel()
	push := &apns2.Notification{
		DeviceToken: device, Topic: "com.example.chat", PushType: apns2.PushTypeAlert,
		Priority: apns2.PriorityHigh, Payload: []byte(`{"aps":{"alert":"A message"}}`),
	}
	l := line{Token: device}
	for wait := time.Second; ; wait *= 2 {
		l.Tries++
		try, stop := context.WithTimeout(all, tryTimeout)
		answer, err := to.PushWithContext(try, push)
		stop()
		if err == nil {
			l.Status, l.Reason, l.Error = answer.StatusCode, answer.Reason, ""
			break
		}
		l.Error = err.Error()
		if l.Tries == tries || errors.Is(all.Err(), context.DeadlineExceeded) {
			break
		}
		select {
		case <-time.After(wait):
		case <-all.Done():
		}
	}
	l.TookMs = time.Since(began).Milliseconds()
	return l
}

func main() {
	to := client(os.Args[1], os.Args[2])
	count, err := strconv.Atoi(os.Args[3])
	must(err)
	rate, err := strconv.Atoi(os.Args[4])
	must(err)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	var group sync.WaitGroup
	var out sync.Mutex
	for serial := range count {
		<-tick.C
		group.Add(1)
		go func() {
			defer group.Done()
			text, err := json.Marshal(send(to, fmt.Sprintf("ac%062x", serial)))
			must(err)
			out.Lock()
			fmt.Println(string(text))
			out.Unlock()
		}()
	}
	group.Wait()
}
