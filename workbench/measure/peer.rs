// A peer for `bench`: a small web server in Rust, with the standard library alone.
//
// `peer FILE THREADS` prints where it listens and responds to every request with FILE, which it
// reads anew each time, on a connection of its own. With 0 threads it serves one client at a time,
// otherwise with a pool: the two programs that the course's sources build.
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{mpsc, Arc, Mutex};
use std::{env, fs, thread};

fn respond(mut stream: TcpStream, file: &str) -> Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear(); // the head ends with a blank line
    }
    let page = fs::read_to_string(file)?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
    let response = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
    stream.write_all(response.as_bytes())
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().collect();
    let file = Arc::new(words[1].clone());
    let threads: usize = words[2].parse().expect("THREADS is a number");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("Listening on http://{}", listener.local_addr()?);
    let (jobs, queue) = mpsc::channel::<TcpStream>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let (queue, file) = (Arc::clone(&queue), Arc::clone(&file));
        thread::spawn(move || loop {
            let job = queue.lock().unwrap().recv(); // the lock is free again after this line
            let Ok(stream) = job else { return };
            let _ = respond(stream, &file); // a client may leave at any moment
        });
    }
    for stream in listener.incoming() {
        let stream = stream?;
        if threads > 0 {
            jobs.send(stream).expect("a worker listens");
        } else {
            let _ = respond(stream, &file);
        }
    }
    Ok(())
}
