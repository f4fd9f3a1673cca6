// Command centrifuge is a benchmark peer: the Go library behind Centrifugo with its
// in-memory engine, WebSocket and SSE handlers, and a POST /publish that takes the
// same body as the hub's. It prints one line of JSON when it is ready.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	historySize = 1000
	historyAge  = 5 * time.Minute
	// A client that is behind is measured, not cut off: the defaults are 1 MB and 1 s.
	queueBytes   = 64 << 20
	writeTimeout = 30 * time.Second
	bodyLimit    = 1 << 20
	// Compression as the hub does it: a message once for all subscribers, unless it is short.
	compressionMinSize = 128
	compressionCache   = 16 << 20
)

var subscribeOptions = centrifuge.SubscribeOptions{EnableRecovery: true}

func onConnecting(_ context.Context, event centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
	reply := centrifuge.ConnectReply{
		Credentials:        &centrifuge.Credentials{},
		MaxMessagesInFrame: *frameMessages,
	}
	// An SSE client cannot send commands, so it names its channels while connecting.
	var channels []string
	if len(event.Data) > 0 {
		if err := json.Unmarshal(event.Data, &channels); err != nil {
			return reply, centrifuge.DisconnectBadRequest
		}
		reply.Subscriptions = make(map[string]centrifuge.SubscribeOptions, len(channels))
		for _, channel := range channels {
			reply.Subscriptions[channel] = subscribeOptions
		}
	}
	return reply, nil
}

func onConnect(client *centrifuge.Client) {
	client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
		answer(centrifuge.SubscribeReply{Options: subscribeOptions}, nil)
	})
}

type publication struct {
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data"`
}

func publishOne(node *centrifuge.Node, line []byte, answer []byte) []byte {
	var item publication
	if err := json.Unmarshal(line, &item); err != nil {
		return append(answer, `{"code":40005,"msg":"invalid JSON"}`...)
	}
	result, err := node.Publish(item.Channel, item.Data, centrifuge.WithHistory(historySize, historyAge))
	if err != nil {
		return append(answer, `{"code":50000,"msg":"not published"}`...)
	}
	answer = append(answer, `{"channel":"`...)
	answer = append(answer, item.Channel...)
	answer = append(answer, `","seq":`...)
	answer = strconv.AppendUint(answer, result.Offset, 10)
	return append(answer, '}')
}

func publish(node *centrifuge.Node) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := []byte(`{"results":[`)
		lines := bufio.NewScanner(http.MaxBytesReader(w, r.Body, bodyLimit))
		lines.Buffer(make([]byte, 0, 64<<10), bodyLimit)
		for lines.Scan() {
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			if answer[len(answer)-1] != '[' {
				answer = append(answer, ',')
			}
			answer = publishOne(node, line, answer)
		}
		if lines.Err() != nil {
			http.Error(w, "unreadable body", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(answer, `]}`...))
	}
}

var frameMessages = flag.Int("frame-messages", 0, "most messages in a frame; 0: the library's default (16), -1: no limit")

var compressionLevel = flag.Int("compression-level", 0, "permessage-deflate with this effort; 0: none")

func main() {
	bind := flag.String("bind", "127.0.0.1:0", "host:port to listen on")
	flag.Parse()
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: queueBytes, ClientChannelLimit: 100000})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(onConnecting)
	node.OnConnect(onConnect)
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	// No pings of its own: a run is shorter than their interval would matter.
	quiet := centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
	http.Handle("/ws", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize: 512, UseWriteBufferPool: true, WriteTimeout: writeTimeout, PingPongConfig: quiet,
		Compression: *compressionLevel > 0, CompressionLevel: *compressionLevel,
		CompressionMinSize: compressionMinSize, CompressionPreparedMessageCacheSize: compressionCache,
	}))
	http.Handle("/sse", centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{PingPongConfig: quiet}))
	http.Handle("POST /publish", publish(node))
	listener, err := net.Listen("tcp", *bind)
	if err != nil {
		log.Fatal(err)
	}
	address := "http://" + listener.Addr().String()
	fmt.Printf("{\"event\":\"ready\",\"public\":%q,\"admin\":%q}\n", address, address)
	log.Fatal(http.Serve(listener, nil))
}
