// Go's part: faults that the Go runtime turns into panics, and faults of faultin called by Go code.
package main

// #cgo pkg-config: faultin
// #include <faultin.h>
import "C"

import (
	"runtime/debug"
	"unsafe"
)

var sink byte

// Returns whether a load becomes a panic, which is recovered here.
func panics(address *byte) (is_recovered bool) {
	defer func() { is_recovered = recover() != nil }()
	debug.SetPanicOnFault(true)
	sink = *address
	return false
}

// go_recovers reports whether SIGSEGV (a null pointer) and SIGBUS (a page that a file no longer has) are panics, in the
// calling thread and in another one.
//
//export go_recovers
func go_recovers(missing unsafe.Pointer) C.int {
	here := panics(nil) && panics((*byte)(missing))
	there := make(chan bool)
	go func() { there <- panics(nil) && panics((*byte)(missing)) }()
	if <-there && here {
		return 1
	}
	return 0
}

// go_copies reports whether faultin recovers its faults when Go code calls it, also in a thread of Go's.
//
//export go_copies
func go_copies(missing unsafe.Pointer) C.int {
	is_short := func() bool {
		var to C.char
		return C.faultin_copy_in(unsafe.Pointer(&to), missing, 1, nil) == 0
	}
	there := make(chan bool)
	go func() { there <- is_short() }()
	if <-there && is_short() {
		return 1
	}
	return 0
}

func main() {}
