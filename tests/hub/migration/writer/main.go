// Writes a Bolt file as the Go hub does, with the library that the Go hub has: writer PATH COUNT.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// The fields of an update, in the hub's JSON.
type update struct {
	Data    string
	ID      string
	Type    string
	Retry   uint64
	Topics  []string
	Private bool
	Debug   bool
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	check(err)
	db, err := bolt.Open(os.Args[1], 0o600, nil)
	check(err)
	defer db.Close()
	for from := 0; from < count; from += 50 {
		check(db.Update(func(tx *bolt.Tx) error { return write(tx, from, min(from+50, count)) }))
	}
}

func write(tx *bolt.Tx, from, to int) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte("updates"))
	if err != nil {
		return err
	}
	bucket.FillPercent = 1
	for number := from; number < to; number++ {
		sequence, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		each := update{
			ID:      fmt.Sprintf("urn:uuid:%08d", number),
			Topics:  []string{fmt.Sprintf("https://example.com/books/%d", number%10), "https://example.com/é"},
			Data:    strings.Repeat("line\n", number%100) + strconv.Itoa(number),
			Private: number%3 == 0,
		}
		if number%7 == 0 {
			each.Type, each.Retry = "price", uint64(number)
		}
		if number%1000 == 999 {
			each.Data = strings.Repeat("large ", 5000) // more than a page
		}
		value, err := json.Marshal(each)
		if err != nil {
			return err
		}
		key := binary.BigEndian.AppendUint64(nil, sequence)
		if err := bucket.Put(append(key, each.ID...), value); err != nil {
			return err
		}
	}
	return nil
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
