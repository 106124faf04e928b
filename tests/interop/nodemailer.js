// node nodemailer.js PORT HOW FILE FROM TO...: hands FILE to Barid by nodemailer, as it is.
//
// HOW is plaintext or tls. The environment's DSN, JSON, is what nodemailer calls the dsn option.
const fs = require("fs");
const nodemailer = require("nodemailer");

const [port, how, file, from, ...to] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: Number(port),
  name: "client.sender.test",
  ignoreTLS: how === "plaintext",
  requireTLS: how === "tls",
  tls: { rejectUnauthorized: false },
});
const message = { envelope: { from, to }, raw: fs.readFileSync(file) };
if (process.env.DSN) message.dsn = JSON.parse(process.env.DSN);

transport.sendMail(message).then(
  (told) => {
    console.log(told.response);
    if (told.rejected.length) throw new Error(`refused: ${told.rejected}`);
  },
).catch((error) => {
  console.error(`nodemailer: ${error.message}`);
  process.exitCode = 1;
});
